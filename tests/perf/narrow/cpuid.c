/* Answers CPUID as a processor without AVX-512 would. Preloaded into a process whose libraries hold UD2 in the place of
 * CPUID (tests/perf/narrow/copies.py): both are two bytes long, and UD2 raises SIGILL.
 *
 * Bits: Intel SDM, volume 2, CPUID, leaf 7. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <ucontext.h>

#define BIT(n) (UINT32_C(1) << (n))

/* AVX512F, DQ, IFMA, PF, ER, CD, BW, VL */
static const uint32_t EBX_7_0 = BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31);
/* AVX512_VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ */
static const uint32_t ECX_7_0 = BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14);
/* AVX512_4VNNIW, 4FMAPS, VP2INTERSECT, AMX_BF16, AVX512_FP16, AMX_TILE, AMX_INT8 */
static const uint32_t EDX_7_0 = BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25);
/* AVX_VNNI, AVX512_BF16 */
static const uint32_t EAX_7_1 = BIT(4) | BIT(5);

static void answer(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *instruction = (const uint8_t *)registers[REG_RIP];
    (void)number, (void)info;
    if (instruction[0] != 0x0f || instruction[1] != 0x0b)
        abort();
    uint32_t leaf = (uint32_t)registers[REG_RAX], part = (uint32_t)registers[REG_RCX], a, b, c, d;
    __cpuid_count(leaf, part, a, b, c, d);
    if (leaf == 7 && part == 0)
        b &= ~EBX_7_0, c &= ~ECX_7_0, d &= ~EDX_7_0;
    if (leaf == 7 && part == 1)
        a &= ~EAX_7_1;
    registers[REG_RAX] = a, registers[REG_RBX] = b, registers[REG_RCX] = c, registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void) {
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGILL, &action, NULL);
}
