/* Runs a Betaflight SITL in lockstep with the program that started it.  Preloaded (LD_PRELOAD); the firmware is not
 * changed.
 *
 *   clock     what the firmware reads as CLOCK_MONOTONIC is counted here: READ_NS per reading, and what it sleeps
 *   stamps    a state packet lets the firmware run to its time stamp; there it waits for the next one
 *   UDP       no port is opened: state and RC come over LINK, motor outputs go back over it, once per state packet
 *   TCP       the firmware's serial port listens on the loopback of its own network namespace; LINK carries its text
 *   end       when LINK closes the process ends
 *
 * LINK is a SOCK_SEQPACKET socket whose number is in S5WM_LINK.  Messages (first byte, rest):
 *   'S' state[144]            'B' rc[40] state[144]          'T' bytes for the serial port
 *   'M' uint64 clock in ns, uint32 motor updates since the last packet, uint32 motors, float us[16]
 *   'T' bytes from the serial port, before the 'M' of the same packet
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { STATE_BYTES = 144, RC_BYTES = 40, MOTORS = 16, TEXT_MAX = 4096, FILES_MAX = 1024 };
enum { PORT_MOTORS_RAW = 9001, PORT_STATE = 9003, PORT_RC = 9004, PORT_SERIAL = 5761 };

#define READ_NS 200ULL            /* what one reading of the clock takes */
#define WAIT_NS 100000000L        /* after which a waiting thread looks whether it shall end */

typedef struct {
    int file;                     /* socket that the firmware expects to receive from; -1: not yet */
    int is_waiting, is_full;      /* its thread waits for a packet; a packet is there */
    int size;
    unsigned char bytes[STATE_BYTES];
} mailbox;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static pthread_t firmware_thread;
static mailbox state_box = {.file = -1}, rc_box = {.file = -1};
static uint64_t clock_ns, limit_ns;
static int link_file = -1, serial_file = -1, has_packet;
static struct { uint32_t updates, motors; float us[MOTORS]; } output;

static void leave(const char *why)
{
    if (why) fprintf(stderr, "[lockstep] %s: %s\n", why, strerror(errno));
    _exit(why ? 1 : 0);
}

static void *original(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) leave(name);
    return found;
}

static void raise_loopback(void)
{
    struct ifreq request;
    int file = socket(AF_INET, SOCK_DGRAM, 0);
    memset(&request, 0, sizeof request);
    strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    if (file < 0 || ioctl(file, SIOCSIFFLAGS, &request) != 0) leave("loopback of the network namespace");
    close(file);
}

__attribute__((constructor)) static void begin(void)
{
    const char *number = getenv("S5WM_LINK");
    pthread_condattr_t how;
    if (!number) leave("S5WM_LINK is not set");
    link_file = atoi(number);
    fcntl(link_file, F_SETFD, FD_CLOEXEC);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    firmware_thread = pthread_self();
    pthread_condattr_init(&how);
    pthread_condattr_setclock(&how, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &how);
    raise_loopback();
    setvbuf(stdout, NULL, _IOLBF, 0);
}

/* The packet in a box is handed to its thread; done when the thread waits for the next one. */
static void deliver(mailbox *box, const unsigned char *bytes, int size)
{
    pthread_mutex_lock(&lock);
    while (!box->is_waiting) pthread_cond_wait(&changed, &lock);
    memcpy(box->bytes, bytes, (size_t)size);
    box->size = size;
    box->is_full = 1;
    box->is_waiting = 0;
    pthread_cond_broadcast(&changed);
    while (!box->is_waiting) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void serial_write(const unsigned char *bytes, size_t size)
{
    if (serial_file < 0) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT_SERIAL)};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        serial_file = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(serial_file, (struct sockaddr *)&address, sizeof address) != 0) leave("serial port");
    }
    if (send(serial_file, bytes, size, MSG_NOSIGNAL) < 0) leave("serial port");
}

static void serial_forward(void)
{
    unsigned char message[TEXT_MAX + 1] = {'T'};
    ssize_t size;
    if (serial_file < 0) return;
    size = recv(serial_file, message + 1, TEXT_MAX, MSG_DONTWAIT);
    if (size > 0 && send(link_file, message, (size_t)size + 1, MSG_NOSIGNAL) < 0) leave(NULL);
}

static void answer(void)
{
    unsigned char message[1 + 8 + sizeof output] = {'M'};
    memcpy(message + 1, &clock_ns, 8);
    memcpy(message + 9, &output, sizeof output);
    output.updates = 0;
    if (send(link_file, message, sizeof message, MSG_NOSIGNAL) < 0) leave(NULL);
}

/* Answers the packet that the firmware has run through, and waits for the next one. */
static void wait_for_packet(void)
{
    unsigned char message[TEXT_MAX + 1];
    if (has_packet) {
        serial_forward();
        answer();
    }
    for (;;) {
        ssize_t size = recv(link_file, message, sizeof message, 0);
        const unsigned char *state = message + 1;
        double stamp;
        if (size <= 0) {
            if (size < 0 && errno == EINTR) continue;
            leave(NULL);
        }
        if (message[0] == 'T') {
            serial_write(message + 1, (size_t)size - 1);
            continue;
        }
        if (message[0] == 'B') {
            deliver(&rc_box, message + 1, RC_BYTES);
            state += RC_BYTES;
        }
        if (state + STATE_BYTES != message + size) leave("message of a wrong size");
        deliver(&state_box, state, STATE_BYTES);
        memcpy(&stamp, state, sizeof stamp);
        limit_ns = (uint64_t)(stamp * 1e9 + 0.5);
        has_packet = 1;
        return;
    }
}

static int is_firmware(void) { return pthread_equal(pthread_self(), firmware_thread); }

int clock_gettime(clockid_t which, struct timespec *now)
{
    uint64_t value;
    if (which != CLOCK_MONOTONIC) return (int)syscall(SYS_clock_gettime, which, now);
    value = is_firmware() ? (clock_ns += READ_NS) : clock_ns;
    now->tv_sec = (time_t)(value / 1000000000ULL);
    now->tv_nsec = (long)(value % 1000000000ULL);
    return 0;
}

int nanosleep(const struct timespec *how_long, struct timespec *left)
{
    if (!is_firmware()) return (int)syscall(SYS_nanosleep, how_long, left);
    clock_ns += (uint64_t)how_long->tv_sec * 1000000000ULL + (uint64_t)how_long->tv_nsec;
    while (clock_ns >= limit_ns && state_box.file >= 0 && rc_box.file >= 0) wait_for_packet();
    if (left) left->tv_sec = left->tv_nsec = 0;
    return 0;
}

int bind(int file, const struct sockaddr *address, socklen_t size)
{
    static int (*next)(int, const struct sockaddr *, socklen_t);
    union { struct sockaddr any; struct sockaddr_in v4; struct sockaddr_in6 v6; } local;
    int type = 0;
    socklen_t length = sizeof type;
    if (!next) *(void **)&next = original("bind");
    memset(&local, 0, sizeof local);
    memcpy(&local, address, size < sizeof local ? size : sizeof local);
    getsockopt(file, SOL_SOCKET, SO_TYPE, &type, &length);
    if (type == SOCK_DGRAM && local.any.sa_family == AF_INET) {
        int port = ntohs(local.v4.sin_port);
        if (port == PORT_STATE) state_box.file = file;
        if (port == PORT_RC) rc_box.file = file;
        return 0;
    }
    if (local.any.sa_family == AF_INET) local.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (local.any.sa_family == AF_INET6) local.v6.sin6_addr = in6addr_loopback;
    return next(file, &local.any, size);
}

static mailbox *box_of(int file)
{
    if (file >= 0 && file == state_box.file) return &state_box;
    return file >= 0 && file == rc_box.file ? &rc_box : NULL;
}

int select(int count, fd_set *read, fd_set *write, fd_set *except, struct timeval *timeout)
{
    static int (*next)(int, fd_set *, fd_set *, fd_set *, struct timeval *);
    mailbox *box = box_of(count - 1);
    struct timespec until;
    int full;
    if (!next) *(void **)&next = original("select");
    if (!box || write || except) return next(count, read, write, except, timeout);
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &until);
    until.tv_nsec += WAIT_NS;
    if (until.tv_nsec >= 1000000000L) { until.tv_sec++; until.tv_nsec -= 1000000000L; }
    pthread_mutex_lock(&lock);
    if (!box->is_full) {
        box->is_waiting = 1;
        pthread_cond_broadcast(&changed);
        while (!box->is_full && pthread_cond_timedwait(&changed, &lock, &until) == 0) { }
    }
    full = box->is_full;
    pthread_mutex_unlock(&lock);
    return full ? 1 : 0;
}

ssize_t recvfrom(int file, void *into, size_t room, int flags, struct sockaddr *from, socklen_t *size)
{
    static ssize_t (*next)(int, void *, size_t, int, struct sockaddr *, socklen_t *);
    mailbox *box = box_of(file);
    ssize_t got;
    if (!next) *(void **)&next = original("recvfrom");
    if (!box) return next(file, into, room, flags, from, size);
    pthread_mutex_lock(&lock);
    got = (size_t)box->size < room ? box->size : (ssize_t)room;
    memcpy(into, box->bytes, (size_t)got);
    box->is_full = 0;
    pthread_mutex_unlock(&lock);
    return got;
}

ssize_t sendto(int file, const void *bytes, size_t size, int flags, const struct sockaddr *to, socklen_t length)
{
    static ssize_t (*next)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    const unsigned char *packet = bytes;
    uint16_t motors;
    int type = 0, port;
    socklen_t room = sizeof type;
    if (!next) *(void **)&next = original("sendto");
    getsockopt(file, SOL_SOCKET, SO_TYPE, &type, &room);
    if (type != SOCK_DGRAM || !to || to->sa_family != AF_INET) return next(file, bytes, size, flags, to, length);
    port = ntohs(((const struct sockaddr_in *)to)->sin_port);
    /* struct { uint16_t count; float us[16]; } with two bytes of padding */
    if (port == PORT_MOTORS_RAW && size == 4 + 4 * MOTORS) {
        memcpy(&motors, packet, 2);
        output.motors = motors;
        memcpy(output.us, packet + 4, sizeof output.us);
        output.updates++;
    }
    return (ssize_t)size;
}
