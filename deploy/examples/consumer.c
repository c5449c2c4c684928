/*
 * A line controller of the ASSURED tier in one file: prints PASS for a unit only when the consumer
 * rule of the protocol (version 1, section 3.6) holds, and REJECT with the cause for all else.
 *
 *     cc -std=c99 -O2 consumer.c -o consumer -lzmq
 *     ./consumer ENDPOINT CONSUMER_NAME STATION [COUNT]
 *
 * PASS <unit_key> may open the gate for that one unit, once; no other line ever may, and a REJECT
 * after a PASS (a verdict sent again) takes nothing back. Bytes of a unit key that are no visible
 * ASCII, and '%', are written as %XX. Ends after COUNT lines. Exit status: 0, or 2 for wrong use.
 */
#define _POSIX_C_SOURCE 200112L
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

#define MS INT64_C(1000000)
#define HEADER 96
#define MAX_METADATA 4096
#define HEARTBEAT_NS (100 * MS)
#define SILENCE_NS (300 * MS) /* three heartbeats */
#define ACK_NS (35 * MS)      /* at most 50 ms, less what a poll takes */
#define ACK_VERDICTS 32
#define MEND_NS (300 * MS) /* a verdict that stays wrong asks for a new connection this often */

enum { NACK = 0x15, BYE = 0x1F, SUBSCRIBE = 0x20, SUBSCRIBED = 0x21, VERDICT = 0x22, ACK = 0x23 };
enum { HEARTBEAT = 0x25, TRUNCATED = 0x26 };
enum { HISTORICAL = 1, REPLAY = 2, DEGRADED = 16, CLOCK_STEP = 32, TEST = 64 };

typedef unsigned char byte;

/* --- numbers ----------------------------------------------------------------------------------- */

static uint64_t little(const byte *p, int size)
{
    uint64_t value = 0;
    while (size-- > 0)
        value = value << 8 | p[size];
    return value;
}

static void put_little(byte *p, uint64_t value, int size)
{
    for (int i = 0; i < size; i++, value >>= 8)
        p[i] = (byte)value;
}

static uint64_t big(const byte *p, int size)
{
    uint64_t value = 0;
    for (int i = 0; i < size; i++)
        value = value << 8 | p[i];
    return value;
}

static uint32_t r32(const byte *p) { return (uint32_t)little(p, 4); }
static uint64_t r64(const byte *p) { return little(p, 8); }

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 * MS + t.tv_nsec;
}

/* --- CRC-32 as zlib has it, and XXH3-64 with seed 0 -------------------------------------------- */

static uint32_t crc32(uint32_t crc, const byte *p, size_t size)
{
    crc = ~crc;
    while (size--) {
        crc ^= *p++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static uint32_t chained(uint32_t previous, const byte *body, size_t size)
{
    byte four[4];
    put_little(four, previous, 4);
    return crc32(crc32(0, four, 4), body, size);
}

static const byte SECRET[192] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e};
#define P32_1 UINT64_C(0x9E3779B1)
#define P32_2 UINT64_C(0x85EBCA77)
#define P32_3 UINT64_C(0xC2B2AE3D)
#define P64_1 UINT64_C(0x9E3779B185EBCA87)
#define P64_2 UINT64_C(0xC2B2AE3D27D4EB4F)
#define P64_3 UINT64_C(0x165667B19E3779F9)
#define P64_4 UINT64_C(0x85EBCA77C2B2AE63)
#define P64_5 UINT64_C(0x27D4EB2F165667C5)
#define MIX_1 UINT64_C(0x165667919E3779F9)
#define MIX_2 UINT64_C(0x9FB21C651E98DF25)

static uint64_t rotl(uint64_t x, int by) { return x << by | x >> (64 - by); }

static uint64_t folded(uint64_t a, uint64_t b) /* the halves of the 128-bit product, XORed */
{
    uint64_t al = a & 0xFFFFFFFF, ah = a >> 32, bl = b & 0xFFFFFFFF, bh = b >> 32;
    uint64_t low = al * bl, cross = (low >> 32) + (ah * bl & 0xFFFFFFFF) + al * bh;
    uint64_t high = (ah * bl >> 32) + (cross >> 32) + ah * bh;
    return high ^ (cross << 32 | (low & 0xFFFFFFFF));
}

static uint64_t avalanche(uint64_t h)
{
    h = (h ^ h >> 37) * MIX_1;
    return h ^ h >> 32;
}

static uint64_t avalanche_64(uint64_t h)
{
    h = (h ^ h >> 33) * P64_2;
    h = (h ^ h >> 29) * P64_3;
    return h ^ h >> 32;
}

static uint64_t mix16(const byte *p, const byte *secret)
{
    return folded(r64(p) ^ r64(secret), r64(p + 8) ^ r64(secret + 8));
}

static uint64_t xxh3_to_16(const byte *p, size_t n)
{
    if (n > 8) {
        uint64_t low = r64(p) ^ r64(SECRET + 24) ^ r64(SECRET + 32);
        uint64_t high = r64(p + n - 8) ^ r64(SECRET + 40) ^ r64(SECRET + 48);
        byte turned[8];
        put_little(turned, low, 8);
        return avalanche(n + big(turned, 8) + high + folded(low, high));
    }
    if (n >= 4) {
        uint64_t h = r32(p + n - 4) + ((uint64_t)r32(p) << 32);
        h ^= r64(SECRET + 8) ^ r64(SECRET + 16);
        h = (h ^ rotl(h, 49) ^ rotl(h, 24)) * MIX_2;
        h = (h ^ ((h >> 35) + n)) * MIX_2;
        return h ^ h >> 28;
    }
    if (n) {
        uint32_t h = (uint32_t)p[0] << 16 | (uint32_t)p[n >> 1] << 24 | p[n - 1] | (uint32_t)n << 8;
        return avalanche_64(h ^ r32(SECRET) ^ r32(SECRET + 4));
    }
    return avalanche_64(r64(SECRET + 56) ^ r64(SECRET + 64));
}

static uint64_t xxh3_to_240(const byte *p, size_t n)
{
    uint64_t h = n * P64_1;
    if (n <= 128) {
        for (size_t i = 0; i <= (n - 1) / 32; i++)
            h += mix16(p + 16 * i, SECRET + 32 * i)
                 + mix16(p + n - 16 * (i + 1), SECRET + 32 * i + 16);
        return avalanche(h);
    }
    for (size_t i = 0; i < 8; i++)
        h += mix16(p + 16 * i, SECRET + 16 * i);
    h = avalanche(h);
    for (size_t i = 8; i < n / 16; i++)
        h += mix16(p + 16 * i, SECRET + 16 * (i - 8) + 3);
    return avalanche(h + mix16(p + n - 16, SECRET + 136 - 17));
}

static void stripe(uint64_t acc[8], const byte *p, const byte *secret)
{
    for (int i = 0; i < 8; i++) {
        uint64_t value = r64(p + 8 * i), key = value ^ r64(secret + 8 * i);
        acc[i ^ 1] += value;
        acc[i] += (key & 0xFFFFFFFF) * (key >> 32);
    }
}

static uint64_t xxh3(const byte *p, size_t n)
{
    if (n <= 16)
        return xxh3_to_16(p, n);
    if (n <= 240)
        return xxh3_to_240(p, n);
    uint64_t acc[8] = {P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1};
    for (size_t i = 0; i < (n - 1) / 64; i++) {
        stripe(acc, p + 64 * i, SECRET + 8 * (i % 16));
        for (int k = 0; i % 16 == 15 && k < 8; k++) /* the end of a block of 1024 bytes */
            acc[k] = (acc[k] ^ acc[k] >> 47 ^ r64(SECRET + 128 + 8 * k)) * P32_1;
    }
    stripe(acc, p + n - 64, SECRET + 128 - 7);
    uint64_t h = n * P64_1;
    for (int i = 0; i < 4; i++)
        h += folded(acc[2 * i] ^ r64(SECRET + 11 + 16 * i),
                    acc[2 * i + 1] ^ r64(SECRET + 19 + 16 * i));
    return avalanche(h);
}

/* --- msgpack: enough to walk a map ------------------------------------------------------------- */

typedef struct {
    const byte *at, *end;
    int bad;
} walk;

typedef struct {
    char kind; /* u number, - negative number, s text, t true, f false, m map, a array, x other */
    uint64_t number; /* value, bytes of text, or items */
    const byte *text;
} item;

static const byte *take(walk *w, uint64_t size)
{
    const byte *p = w->at;
    if (w->bad || size > (uint64_t)(w->end - w->at)) {
        w->bad = 1;
        return NULL;
    }
    w->at += size;
    return p;
}

static item sized(walk *w, char kind, int width, uint64_t extra)
{
    const byte *p = take(w, (uint64_t)width);
    item found = {kind, p ? big(p, width) : 0, NULL};
    if (kind == 's' || kind == 'x') {
        found.number += extra;
        found.text = take(w, found.number);
    }
    return found;
}

static item plain_item(char kind, uint64_t number)
{
    item found = {kind, number, NULL};
    return found;
}

static item next(walk *w)
{
    const byte *p = take(w, 1);
    byte b = p ? *p : 0xC1;
    if (b < 0x80)
        return plain_item('u', b);
    if (b < 0x90)
        return plain_item('m', b & 15u);
    if (b < 0xA0)
        return plain_item('a', b & 15u);
    if (b < 0xC0) {
        item text = {'s', b & 31u, take(w, b & 31u)};
        return text;
    }
    if (b >= 0xE0)
        return plain_item('-', 0);
    switch (b) {
    case 0xC0: return plain_item('x', 0);
    case 0xC2: return plain_item('f', 0);
    case 0xC3: return plain_item('t', 0);
    case 0xC4: case 0xC5: case 0xC6: return sized(w, 'x', 1 << (b - 0xC4), 0);
    case 0xC7: case 0xC8: case 0xC9: return sized(w, 'x', 1 << (b - 0xC7), 1);
    case 0xCA: case 0xCB: take(w, b == 0xCA ? 4 : 8); return plain_item('x', 0);
    case 0xCC: case 0xCD: case 0xCE: case 0xCF: return sized(w, 'u', 1 << (b - 0xCC), 0);
    case 0xD0: case 0xD1: case 0xD2: case 0xD3: return sized(w, '-', 1 << (b - 0xD0), 0);
    case 0xD4: case 0xD5: case 0xD6: case 0xD7: case 0xD8:
        take(w, 1u + (1u << (b - 0xD4)));
        return plain_item('x', 0);
    case 0xD9: case 0xDA: case 0xDB: return sized(w, 's', 1 << (b - 0xD9), 0);
    case 0xDC: case 0xDD: return sized(w, 'a', b == 0xDC ? 2 : 4, 0);
    case 0xDE: case 0xDF: return sized(w, 'm', b == 0xDE ? 2 : 4, 0);
    default: w->bad = 1; return plain_item('x', 0);
    }
}

static void skip(walk *w, item first) /* whatever is inside an item, however deep */
{
    uint64_t left = first.kind == 'm' ? 2 * first.number : first.kind == 'a' ? first.number : 0;
    while (left && !w->bad) {
        item inner = next(w);
        left += inner.kind == 'm' ? 2 * inner.number : inner.kind == 'a' ? inner.number : 0;
        left--;
    }
}

static int is(item text, const char *word)
{
    return text.kind == 's' && text.text && text.number == strlen(word)
           && !memcmp(text.text, word, (size_t)text.number);
}

/* Finds `count` keys of a map; of a key said twice the last counts. 0 where it cannot be read. */
static int look_up(const byte *raw, size_t size, const char *const *keys, item *found, int count)
{
    walk w = {raw, raw + size, 0};
    for (int i = 0; i < count; i++)
        found[i] = plain_item(0, 0);
    item map = next(&w);
    if (map.kind != 'm')
        return 0;
    for (uint64_t left = map.number; left && !w.bad; left--) {
        item key = next(&w), value;
        skip(&w, key);
        value = next(&w);
        skip(&w, value);
        for (int i = 0; i < count; i++)
            if (is(key, keys[i]))
                found[i] = value;
    }
    return !w.bad && w.at == w.end;
}

/* --- the connection ---------------------------------------------------------------------------- */

typedef struct {
    uint64_t next;
    uint32_t chain;
} lane;

typedef struct {
    const char *endpoint, *name, *station;
    long lines_left; /* -1 without end */
    void *context, *socket;
    int asked, subscribed, again;
    int64_t opened_ns, heard_ns, heartbeat_ns, beat_ns, acked_ns;
    int64_t quickest_ns; /* least difference of the clocks and way here, of this connection */
    lane live, history;
    uint64_t live_from, acted_upto;
    int unacked;
} consumer;

typedef struct {
    byte header[HEADER], body[MAX_METADATA];
    size_t header_size, body_size;
    int parts, too_long;
} message;

static int send_parts(consumer *c, int type, const byte *body, size_t size)
{
    byte header[HEADER] = {'E', 'I', 'P', '1', 1, 0};
    header[6] = (byte)type;
    put_little(header + 8, size, 4);
    put_little(header + 48, (uint64_t)now_ns(), 8);
    put_little(header + 92, crc32(0, header, 92), 4);
    if (zmq_send(c->socket, header, HEADER, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
        return 0;
    return zmq_send(c->socket, body, size, ZMQ_DONTWAIT) >= 0;
}

static size_t put_text(byte *p, const char *text)
{
    size_t size = strlen(text);
    p[0] = 0xD9;
    p[1] = (byte)size;
    memcpy(p + 2, text, size);
    return size + 2;
}

static void subscribe(consumer *c)
{
    byte body[256];
    size_t n = 10;
    memcpy(body, "\x84\xA8" "consumer", n);
    n += put_text(body + n, c->name);
    memcpy(body + n, "\xA4" "from\x00\xA5" "lanes\x02\xA8" "stations\x91", 23);
    n += 23;
    n += put_text(body + n, c->station);
    c->asked = send_parts(c, SUBSCRIBE, body, n);
}

static void acknowledge(consumer *c, int64_t now)
{
    byte body[34] = {0x82, 0xA4, 'u', 'p', 't', 'o', 0xCF};
    uint64_t live = c->live.next - 1;
    uint64_t held = c->history.next < c->live_from ? c->history.next - 1 : live;
    memcpy(body + 15, "\xA9" "live_upto\xCF", 11);
    for (int i = 0; i < 8; i++) {
        body[7 + i] = (byte)(held >> (56 - 8 * i));
        body[26 + i] = (byte)(live >> (56 - 8 * i));
    }
    if (send_parts(c, ACK, body, sizeof body)) {
        c->unacked = 0;
        c->acked_ns = now;
    }
}

static void set(void *socket, int option, int value)
{
    zmq_setsockopt(socket, option, &value, sizeof value);
}

static int open_socket(consumer *c)
{
    int64_t limit = 65536;
    if (c->socket)
        zmq_close(c->socket);
    c->socket = zmq_socket(c->context, ZMQ_DEALER);
    if (!c->socket)
        return 0;
    set(c->socket, ZMQ_LINGER, 100); /* the last ACK */
    set(c->socket, ZMQ_IMMEDIATE, 1);
    set(c->socket, ZMQ_RECONNECT_IVL, 100);
    set(c->socket, ZMQ_SNDHWM, 1000);
    set(c->socket, ZMQ_RCVHWM, 4096);
    zmq_setsockopt(c->socket, ZMQ_MAXMSGSIZE, &limit, sizeof limit);
    c->asked = c->subscribed = c->again = c->unacked = 0;
    c->opened_ns = c->heard_ns = now_ns();
    c->heartbeat_ns = c->opened_ns - SILENCE_NS;
    c->quickest_ns = INT64_MAX;
    return zmq_connect(c->socket, c->endpoint) == 0;
}

static int receive(void *socket, message *m)
{
    int more = 1;
    memset(m, 0, sizeof *m);
    while (more) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        if (zmq_msg_recv(&part, socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&part);
            return 0;
        }
        size_t size = zmq_msg_size(&part);
        m->parts++;
        if (m->parts == 1 && size == HEADER) {
            memcpy(m->header, zmq_msg_data(&part), m->header_size = size);
        } else if (m->parts == 2 && size <= MAX_METADATA) {
            memcpy(m->body, zmq_msg_data(&part), m->body_size = size);
        } else {
            m->too_long = 1; /* what a daemon sends here has no payload */
        }
        more = zmq_msg_more(&part);
        zmq_msg_close(&part);
    }
    return 1;
}

/* --- the consumer rule ------------------------------------------------------------------------- */

static void say(consumer *c, const char *why, item unit)
{
    fputs(why ? "REJECT " : "PASS ", stdout);
    for (uint64_t i = 0; i < unit.number; i++)
        printf(unit.text[i] > 0x20 && unit.text[i] < 0x7F && unit.text[i] != '%' ? "%c" : "%%%02X",
               unit.text[i]);
    printf("%s%s%s\n", unit.number ? "" : "-", why ? " " : "", why ? why : "");
    fflush(stdout);
    if (c->lines_left > 0)
        c->lines_left--;
}

static const char *header_fault(const message *m)
{
    if (m->too_long || m->header_size != HEADER)
        return "parts";
    if (memcmp(m->header, "EIP1", 4))
        return "magic";
    if (r32(m->header + 92) != crc32(0, m->header, 92))
        return "crc";
    if (m->header[4] != 1)
        return "version";
    if (r32(m->header + 8) != m->body_size || r32(m->header + 12))
        return "lengths";
    return NULL;
}

static const char *flag_fault(byte flags)
{
    if (flags & HISTORICAL)
        return "historical";
    if (flags & REPLAY)
        return "replay";
    if (flags & TEST)
        return "test";
    return flags & ~(DEGRADED | CLOCK_STEP) ? "flags" : NULL;
}

static const char *outcome_fault(byte code, byte complement, item outcome)
{
    static const struct {
        byte code;
        const char *name;
    } known[] = {{0xF0, "fail"},         {0x33, "timeout"},     {0x3C, "aborted"},
                 {0x55, "shed"},         {0x66, "bad_input"},   {0x69, "no_image"},
                 {0x96, "camera_fault"}, {0x99, "model_fault"}, {0xAA, "store_fault"},
                 {0xC3, "conflict"}};
    if ((code ^ complement) != 0xFF)
        return "code";
    if (code == 0x5A)
        return is(outcome, "pass") ? NULL : "code";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].code == code)
            return known[i].name;
    return "code";
}

enum { VSEQ, UNIT, STATION, OUTCOME, CAPTURED, VALID, ADVISORY, KEYS };
static const char *const VERDICT_KEYS[KEYS] = {
    "vseq", "unit_key", "station", "outcome", "captured_mono_ns", "valid_us", "advisory"};

static const char *time_fault(const consumer *c, const message *m, const item *said, int64_t now)
{
    uint64_t sent = r64(m->header + 48), age, late;
    if (said[CAPTURED].kind != 'u' || said[VALID].kind != 'u' || sent > INT64_MAX
        || sent < said[CAPTURED].number)
        return "late";
    age = sent - said[CAPTURED].number;
    late = (uint64_t)(now - (int64_t)sent - c->quickest_ns); /* what it waited on the way */
    if (said[VALID].number > UINT64_MAX / 1000 || age + late < age
        || age + late >= said[VALID].number * 1000)
        return "late";
    return now - c->heartbeat_ns < SILENCE_NS ? NULL : "heartbeat";
}

/* The lane moves on only over a verdict that follows; `again` asks for those that did not. */
static const char *lane_fault(consumer *c, const message *m, const item *said)
{
    uint64_t vseq = r64(m->header + 32);
    byte flags = m->header[7];
    lane *l = flags & HISTORICAL ? &c->history : &c->live;
    if (!c->subscribed)
        return "unasked";
    if (said[VSEQ].kind != 'u' || said[VSEQ].number != vseq) {
        c->again = 1;
        return "vseq";
    }
    if (flags & REPLAY)
        return "replay"; /* never asked for here, and in no lane */
    if (vseq < l->next)
        return "known";
    if (vseq > l->next || chained(l->chain, m->body, m->body_size) != r32(m->header + 88)) {
        c->again = 1;
        return "chain";
    }
    l->next++;
    l->chain = r32(m->header + 88);
    c->unacked++;
    return NULL;
}

static void judge(consumer *c, const message *m, int64_t now)
{
    static const item nobody = {0, 0, NULL};
    item said[KEYS];
    const char *why = NULL;
    if (r64(m->header + 80) != xxh3(m->body, m->body_size))
        why = "digest";
    else if (!look_up(m->body, m->body_size, VERDICT_KEYS, said, KEYS) || said[UNIT].kind != 's')
        why = "body";
    if (why) {
        c->again = 1;
        say(c, why, nobody);
        return;
    }
    why = lane_fault(c, m, said);
    if (!is(said[STATION], c->station))
        return; /* another gate's unit: held and acknowledged */
    if (!why)
        why = flag_fault(m->header[7]);
    if (!why)
        why = outcome_fault(m->header[74], m->header[75], said[OUTCOME]);
    if (!why && said[ADVISORY].kind != 'f')
        why = "advisory";
    if (!why)
        why = time_fault(c, m, said, now);
    if (!why && said[VSEQ].number <= c->acted_upto)
        why = "known";
    if (!why)
        c->acted_upto = said[VSEQ].number;
    say(c, why, said[UNIT]);
}

static void begin(consumer *c, const message *m, int64_t now)
{
    static const char *const keys[] = {"live_from", "live_chain", "history_from", "history_chain"};
    item said[4];
    if (!look_up(m->body, m->body_size, keys, said, 4))
        return;
    for (int i = 0; i < 4; i++)
        if (said[i].kind != 'u')
            return;
    c->live_from = c->live.next = said[0].number;
    c->live.chain = (uint32_t)said[1].number;
    c->history.next = said[2].number;
    c->history.chain = (uint32_t)said[3].number;
    c->subscribed = c->live_from && c->history.next;
    c->acked_ns = now;
}

static void truncate_history(consumer *c, const message *m)
{
    static const char *const keys[] = {"from", "to", "chain"};
    item said[3];
    if (!look_up(m->body, m->body_size, keys, said, 3) || said[1].kind != 'u' || said[2].kind != 'u')
        return;
    fprintf(stderr, "verdicts up to %" PRIu64 " are gone from the log\n", said[1].number);
    if (said[0].number <= c->history.next && c->history.next <= said[1].number) {
        c->history.next = said[1].number + 1;
        c->history.chain = (uint32_t)said[2].number;
        c->unacked++;
    }
}

static void refused(consumer *c, const message *m)
{
    static const char *const keys[] = {"why", "detail"};
    item said[2];
    if (!look_up(m->body, m->body_size, keys, said, 2) || said[0].kind != 's')
        return;
    fprintf(stderr, "refused: %.*s\n", (int)said[0].number, (const char *)said[0].text);
    if (is(said[0], "HELLO_FIRST"))
        c->asked = c->subscribed = 0;
}

static void hear(consumer *c, const message *m)
{
    static const item nobody = {0, 0, NULL};
    int64_t now = now_ns(), sent = (int64_t)r64(m->header + 48), way = 0;
    const char *why = header_fault(m);
    if (why) {
        c->again = 1;
        say(c, why, nobody);
        return;
    }
    c->heard_ns = now;
    if (sent > 0) {
        way = now - sent;
        if (way < c->quickest_ns)
            c->quickest_ns = way;
    }
    switch (m->header[6]) {
    case SUBSCRIBED: begin(c, m, now); break;
    case VERDICT: judge(c, m, now); break;
    case TRUNCATED: truncate_history(c, m); break;
    case HEARTBEAT: c->heartbeat_ns = sent > 0 ? now - (way - c->quickest_ns) : now; break;
    case NACK: refused(c, m); break;
    default: break; /* BYE too: silence follows */
    }
}

static int keep_up(consumer *c)
{
    int64_t now = now_ns();
    int mend = c->again || (!c->subscribed && c->asked);
    if (now - c->heard_ns >= SILENCE_NS || (mend && now - c->opened_ns >= MEND_NS))
        return open_socket(c);
    if (!c->asked)
        subscribe(c);
    if (now - c->beat_ns >= HEARTBEAT_NS && send_parts(c, HEARTBEAT, (const byte *)"\x80", 1))
        c->beat_ns = now;
    if (c->unacked >= ACK_VERDICTS || (c->unacked && now - c->acked_ns >= ACK_NS))
        acknowledge(c, now);
    return 1;
}

static int run(consumer *c)
{
    message m;
    while (c->lines_left) {
        zmq_pollitem_t poll = {c->socket, 0, ZMQ_POLLIN, 0};
        zmq_poll(&poll, 1, 10);
        if (receive(c->socket, &m))
            hear(c, &m);
        if (!keep_up(c))
            return 2;
    }
    if (c->unacked)
        acknowledge(c, now_ns());
    return 0;
}

int main(int argc, char **argv)
{
    consumer c;
    int status = 2;
    memset(&c, 0, sizeof c);
    if (argc < 4 || argc > 5 || strlen(argv[2]) > 64 || strlen(argv[3]) > 64) {
        fprintf(stderr, "usage: %s ENDPOINT CONSUMER_NAME STATION [COUNT]\n", argv[0]);
        return 2;
    }
    c.endpoint = argv[1];
    c.name = argv[2];
    c.station = argv[3];
    c.lines_left = argc > 4 ? strtol(argv[4], NULL, 10) : -1;
    c.context = zmq_ctx_new();
    if (open_socket(&c))
        status = run(&c);
    else
        fprintf(stderr, "%s: %s\n", c.endpoint, zmq_strerror(errno));
    zmq_close(c.socket);
    zmq_ctx_term(c.context);
    return status;
}
