/* Runs the self-test of an exported policy on a bare Cortex-M4 under QEMU and prints its error in units of 1e-9. */

#include <stdint.h>

#include "policy.h"

static policy_state state;

static void semihost(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

static void reset(void)
{
    static char text[12];
    uint32_t error;
    char *digit = text + 10;

    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* turns the floating-point unit on */
    __asm volatile("dsb\nisb");
    error = (uint32_t)(policy_selftest(&state) * 1e9f);
    *digit = '\n';
    do {
        *--digit = (char)('0' + error % 10u);
        error /= 10u;
    } while (error != 0u);
    semihost(0x04, digit);                 /* SYS_WRITE0 */
    semihost(0x18, (const void *)0x20026); /* SYS_EXIT, as an application that has ended */
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static void *const vectors[2] = {(void *)0x20040000, (void *)reset};
