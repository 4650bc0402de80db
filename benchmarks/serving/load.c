/* Keep-alive HTTP/1.1 load on 127.0.0.1 over epoll: closed loop, or open loop at a constant rate.
 *
 *   load PORT REQUESTS CONNECTIONS SECONDS RATE [SAMPLES]
 *
 * REQUESTS is a file of whole requests, each after its length (uint32, little-endian); they are sent in turn. RATE is
 * requests a second in open loop, 0 means closed loop. Prints one line of JSON; its `seconds` end with the last answer.
 * In open loop a latency counts from the moment at which the request was to be sent, whether or not a connection was
 * free then; a lag is how late a request left although a connection was free. SAMPLES is a file for (intended, sent,
 * answered) of every request, each a uint64 of ns after the start.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "answer.h"

#define GRACE_NS 10000000000LL /* how long after the end an answer is waited for */
#define MAX_CONNECTIONS 1024
#define MAX_RECONNECTS 10000

typedef struct { const char *bytes; size_t size; } Request;

typedef struct {
    int fd, busy, writable;
    const Request *request;
    size_t sent, have, room;
    char *answer;
    int64_t intended, began, free_since;
} Connection;

typedef struct { int64_t *values; size_t count, room; } Series;

static struct {
    Connection connections[MAX_CONNECTIONS];
    Connection *free[MAX_CONNECTIONS]; /* a ring, so that all take turns */
    size_t free_first, free_count, connection_count;
    Request *requests;
    size_t request_count, started, outstanding;
    long ok, not_2xx, broken, closed, first_bad_status;
    Series latencies, lags;
    int port, epoll, open_loop;
    int64_t start, end, last_answer;
    double interval;
    FILE *samples;
} g;

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, errno ? strerror(errno) : "no more is known");
    exit(3);
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void push(Series *series, int64_t value) {
    if (series->count == series->room) {
        series->room = series->room ? series->room * 2 : 1 << 16;
        series->values = realloc(series->values, series->room * sizeof *series->values);
        if (!series->values) die("memory");
    }
    series->values[series->count++] = value;
}

static void read_requests(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    uint32_t size;
    while (fread(&size, sizeof size, 1, file) == 1) {
        char *bytes = malloc(size);
        if (!bytes || fread(bytes, 1, size, file) != size) die("the file of requests is cut short");
        g.requests = realloc(g.requests, (g.request_count + 1) * sizeof *g.requests);
        g.requests[g.request_count++] = (Request){bytes, size};
    }
    fclose(file);
    if (!g.request_count) die("the file of requests is empty");
}

static void set_free(Connection *c) {
    c->busy = 0;
    c->free_since = now_ns();
    g.free[(g.free_first + g.free_count++) % MAX_CONNECTIONS] = c;
}

static void connect_to_server(Connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(g.port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0) die("socket");
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (epoll_ctl(g.epoll, EPOLL_CTL_ADD, c->fd, &event)) die("epoll_ctl");
    c->sent = c->have = 0;
}

static void reconnect(Connection *c) {
    static int reconnects;
    if (++reconnects > MAX_RECONNECTS) die("the server keeps closing connections");
    close(c->fd);
    connect_to_server(c);
}

static void send_rest(Connection *c) {
    while (c->sent < c->request->size) {
        ssize_t wrote = send(c->fd, c->request->bytes + c->sent, c->request->size - c->sent, MSG_NOSIGNAL);
        if (wrote < 0) return; /* not now; or broken, which the next read finds */
        c->sent += wrote;
    }
}

static void begin(int64_t intended) {
    Connection *c = g.free[g.free_first];
    g.free_first = (g.free_first + 1) % MAX_CONNECTIONS;
    g.free_count--;
    c->busy = 1;
    c->sent = c->have = 0;
    c->request = &g.requests[g.started++ % g.request_count];
    c->began = now_ns();
    c->intended = g.open_loop ? intended : c->began;
    /* A request that had to wait for no connection shows how late this program itself is. */
    if (g.open_loop && c->free_since <= intended) push(&g.lags, c->began - intended);
    g.outstanding++;
    send_rest(c);
}

/* When a request of an open loop is to be sent. */
static int64_t due_at(size_t number) { return g.start + (int64_t)(number * g.interval); }

/* Begin whatever is due; returns ns until the next one is, or -1 when only an answer can bring one. */
static int64_t begin_due(void) {
    int64_t now = now_ns();
    if (!g.open_loop) {
        while (g.free_count && now < g.end) begin(now);
        return -1;
    }
    for (;;) {
        int64_t due = due_at(g.started);
        if (due >= g.end || !g.free_count) return -1;
        if (due > now && due > (now = now_ns())) return due - now;
        begin(due);
    }
}

static void finish(Connection *c, size_t size) {
    int64_t now = g.last_answer = now_ns();
    c->answer[size < c->room ? size : c->room - 1] = 0;
    long status = size > 12 ? strtol(c->answer + 9, NULL, 10) : 0;
    if (status >= 200 && status < 300) {
        g.ok++;
        push(&g.latencies, now - c->intended);
        if (g.samples) {
            uint64_t sample[3] = {c->intended - g.start, c->began - g.start, now - g.start};
            fwrite(sample, sizeof sample, 1, g.samples);
        }
    } else {
        g.not_2xx++;
        if (!g.first_bad_status) g.first_bad_status = status;
    }
    g.outstanding--;
    const char *value = header(c->answer, c->have, "connection");
    if (value && !strncasecmp(value, "close", 5)) {
        g.closed++;
        reconnect(c);
    }
    set_free(c);
}

static void lose(Connection *c) {
    if (c->busy) {
        g.broken++;
        g.outstanding--;
        reconnect(c);
        set_free(c);
    } else {
        g.closed++;
        reconnect(c);
    }
}

static void receive(Connection *c) {
    for (;;) {
        if (c->room - c->have < 32768) {
            c->room = c->room ? c->room * 2 : 131072;
            c->answer = realloc(c->answer, c->room);
            if (!c->answer) die("memory");
        }
        ssize_t got = recv(c->fd, c->answer + c->have, c->room - c->have - 1, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0 || !c->busy) return lose(c);
        c->have += got;
        ssize_t size = answer_size(c->answer, c->have);
        if (size < 0) return lose(c);
        if (size > 0) finish(c, size); /* and read on: the server may have closed as well */
    }
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double at_us(const Series *s, double share) {
    if (!s->count) return 0;
    size_t at = (size_t)(share * s->count);
    return s->values[at < s->count ? at : s->count - 1] / 1000.0;
}

/* ns that this process was ready to run and did not, as Linux counts it; 0 where it is not counted. */
static double waited_us(void) {
    unsigned long long ran, waited = 0;
    FILE *file = fopen("/proc/self/schedstat", "r");
    if (!file) return 0;
    if (fscanf(file, "%llu %llu", &ran, &waited) != 2) waited = 0;
    fclose(file);
    return waited / 1000.0;
}

static void print_series(const char *name, Series *s) {
    qsort(s->values, s->count, sizeof *s->values, by_value);
    printf(", \"%s\": {\"count\": %zu, \"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p99.9\": %.1f, \"max\": %.1f}",
           name, s->count, at_us(s, 0.5), at_us(s, 0.9), at_us(s, 0.99), at_us(s, 0.999), at_us(s, 1));
}

static void report(void) {
    double seconds = (g.last_answer - g.start) / 1e9;
    size_t due = g.started;
    while (g.open_loop && due_at(due) < g.end) due++;
    printf("{\"due\": %zu, \"ok\": %ld, \"not_2xx\": %ld, \"broken\": %ld, \"unanswered\": %zu", due, g.ok,
           g.not_2xx, g.broken, g.outstanding + due - g.started);
    printf(", \"closed\": %ld, \"first_bad_status\": %ld, \"seconds\": %.6f", g.closed, g.first_bad_status, seconds);
    printf(", \"generator_waited_us\": %.1f", waited_us());
    print_series("latency_us", &g.latencies);
    print_series("lag_us", &g.lags);
    printf("}\n");
}

static void wait_for_events(int64_t timeout_ns) {
    struct epoll_event events[256];
    /* Whole milliseconds are too coarse to keep a rate with: sleep only when there is time, spin for the rest. */
    int count = epoll_wait(g.epoll, events, 256, timeout_ns < 0 ? 100 : (int)(timeout_ns / 1000000));
    for (int i = 0; i < count; i++) {
        Connection *c = events[i].data.ptr;
        if (events[i].events & EPOLLOUT && c->busy) send_rest(c);
        if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) receive(c);
    }
}

int main(int count, char **arguments) {
    if (count < 6) {
        fprintf(stderr, "usage: load PORT REQUESTS CONNECTIONS SECONDS RATE [SAMPLES]\n");
        return 2;
    }
    g.port = atoi(arguments[1]);
    read_requests(arguments[2]);
    g.connection_count = atoi(arguments[3]);
    double seconds = atof(arguments[4]), rate = atof(arguments[5]);
    if (g.connection_count < 1 || g.connection_count > MAX_CONNECTIONS || seconds <= 0) die("arguments out of range");
    if (count > 6 && !(g.samples = fopen(arguments[6], "wb"))) die(arguments[6]);
    g.open_loop = rate > 0;
    g.interval = g.open_loop ? 1e9 / rate : 0;
    g.epoll = epoll_create1(0);
    for (size_t i = 0; i < g.connection_count; i++) {
        connect_to_server(&g.connections[i]);
        set_free(&g.connections[i]);
    }
    g.start = now_ns();
    g.end = g.start + (int64_t)(seconds * 1e9);
    for (;;) {
        int64_t wait = begin_due();
        int64_t now = now_ns();
        int done = g.open_loop ? due_at(g.started) >= g.end : now >= g.end;
        if ((done && !g.outstanding) || now > g.end + GRACE_NS) break;
        wait_for_events(wait);
    }
    if (g.samples) fclose(g.samples);
    report();
    return 0;
}
