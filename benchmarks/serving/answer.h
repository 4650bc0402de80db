/* What an HTTP/1.1 answer says of itself. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/types.h>

/* The value of a field of the head, NULL when it is not there. */
static const char *header(const char *head, size_t size, const char *name) {
    size_t length = strlen(name);
    for (const char *at = head, *end = head + size; at && at + length + 1 < end;) {
        if (!strncasecmp(at, name, length) && at[length] == ':') {
            for (at += length + 1; *at == ' '; at++) {}
            return at;
        }
        at = memchr(at, '\n', end - at);
        if (at) at++;
    }
    return NULL;
}

/* Bytes of a chunked body that is whole, 0 when more has to come. */
static size_t chunked_size(const char *body, size_t have) {
    size_t at = 0;
    for (;;) {
        char *line_end = have > at ? memmem(body + at, have - at, "\r\n", 2) : NULL;
        if (!line_end) return 0;
        size_t size = strtoul(body + at, NULL, 16);
        at = line_end + 2 - body + size + 2;
        if (at > have) return 0;
        if (!size) return at;
    }
}

/* Bytes of the answer if it is whole, 0 when more has to come, -1 when it is none. */
static ssize_t answer_size(const char *answer, size_t have) {
    char *head_end = memmem(answer, have, "\r\n\r\n", 4);
    if (!head_end) return have > 65536 ? -1 : 0;
    size_t head = head_end + 4 - answer;
    const char *value = header(answer, head, "content-length");
    if (value) {
        size_t all = head + strtoul(value, NULL, 10);
        return have >= all ? (ssize_t)all : 0;
    }
    value = header(answer, head, "transfer-encoding");
    if (!value || strncasecmp(value, "chunked", 7)) return -1;
    size_t body = chunked_size(answer + head, have - head);
    return body ? (ssize_t)(head + body) : 0;
}
