/* The floor: an HTTP/1.1 server of one thread over epoll that reads every request whole and gives a fixed answer.
 *
 *   floor PORT ANSWER_1 ANSWER_100
 *
 * The answers are files with JSON: the first for POST /1, the second for any other path. Listens on 127.0.0.1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define ROOM (4 << 20)

typedef struct { int fd; size_t have, needed, room; char *request; } Connection;

static char *answers[2];
static size_t answer_sizes[2];

static void die(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(3);
}

static void read_answer(const char *path, int which) {
    static char body[ROOM];
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    size_t size = fread(body, 1, sizeof body, file);
    fclose(file);
    char *answer = malloc(size + 256);
    if (!answer) die("memory");
    int head = sprintf(answer, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n", size);
    memcpy(answer + head, body, size);
    answers[which] = answer;
    answer_sizes[which] = head + size;
}

static int listen_on(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) die("listen");
    return listener;
}

static void watch(int epoll, int fd, void *data) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = data};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

static void drop(Connection *c) {
    close(c->fd);
    free(c->request);
    free(c);
}

/* Bytes of the request, once its head is there; 0 before. */
static size_t request_size(const Connection *c) {
    char *head_end = memmem(c->request, c->have, "\r\n\r\n", 4);
    if (!head_end) return 0;
    *head_end = 0;
    char *length = strcasestr(c->request, "\r\ncontent-length:");
    *head_end = '\r';
    return head_end + 4 - c->request + (length ? strtoul(length + 17, NULL, 10) : 0);
}

/* The answers are small and the client reads them at once: they fit into the socket's buffer. */
static int answer(Connection *c) {
    int which = memcmp(c->request, "POST /1 ", 8) != 0;
    c->have = c->needed = 0;
    return send(c->fd, answers[which], answer_sizes[which], MSG_NOSIGNAL) == (ssize_t)answer_sizes[which];
}

static void receive(Connection *c) {
    if (c->have + 1 >= c->room) {
        c->room = c->room ? c->room * 2 : 65536;
        c->request = realloc(c->request, c->room);
        if (!c->request) die("memory");
    }
    ssize_t got = recv(c->fd, c->request + c->have, c->room - c->have - 1, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return drop(c);
    c->have += got;
    c->request[c->have] = 0;
    if (!c->needed) c->needed = request_size(c);
    if (c->needed && c->have >= c->needed && !answer(c)) drop(c);
}

int main(int count, char **arguments) {
    if (count != 4) {
        fprintf(stderr, "usage: floor PORT ANSWER_1 ANSWER_100\n");
        return 2;
    }
    read_answer(arguments[2], 0);
    read_answer(arguments[3], 1);
    int listener = listen_on(atoi(arguments[1])), epoll = epoll_create1(0), one = 1;
    watch(epoll, listener, NULL);
    for (;;) {
        struct epoll_event events[256];
        int ready = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr) {
                receive(events[i].data.ptr);
                continue;
            }
            Connection *c = calloc(1, sizeof *c);
            if (!c || (c->fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) < 0) die("accept");
            setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            watch(epoll, c->fd, c);
        }
    }
}
