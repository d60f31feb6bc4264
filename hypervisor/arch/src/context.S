// Entering and leaving a guest; its floating-point registers.

// Enters the guest whose frame is at x0; returns when an exception brings it back.
//   in:   x0 = Frame (16-byte aligned); ELR_EL2 and SPSR_EL2 = where the guest goes on
//   out:  x0 = REASON_*, x1 = ESR_EL2
//   keeps x19, x29, sp; clobbers every other general register and the flags.
// While the guest runs SP_EL2 is the frame, so that the vectors need no register to find it.
.section .text.guest_enter, "ax"
.global guest_enter
.balign 64
guest_enter:
    stp     x19, x29, [sp, #-32]!
    str     x30, [sp, #16]
    mov     x9, sp
    str     x9, [x0, #{HYPERVISOR_SP}]
    mov     sp, x0
    ldp     x28, x29, [sp, #8 * 28]
    ldp     x26, x27, [sp, #8 * 26]
    ldp     x24, x25, [sp, #8 * 24]
    ldp     x22, x23, [sp, #8 * 22]
    ldp     x20, x21, [sp, #8 * 20]
    ldp     x18, x19, [sp, #8 * 18]
    ldp     x16, x17, [sp, #8 * 16]
    ldp     x14, x15, [sp, #8 * 14]
    ldp     x12, x13, [sp, #8 * 12]
    ldp     x10, x11, [sp, #8 * 10]
    ldp     x8, x9, [sp, #8 * 8]
    ldp     x6, x7, [sp, #8 * 6]
    ldp     x4, x5, [sp, #8 * 4]
    ldp     x2, x3, [sp, #8 * 2]
    ldp     x0, x1, [sp]
    ldr     x30, [sp, #8 * 30]
    eret
    dsb     nsh                         // nothing is speculated past the return
    isb

// The second half of an exit: the vector has stored x0 to x30, set x0 to the reason.
//   in:   sp = Frame
.macro guest_leave
    mrs     x1, esr_el2
    ldr     x9, [sp, #{HYPERVISOR_SP}]
    mov     sp, x9
    ldr     x30, [sp, #16]
    ldp     x19, x29, [sp], #32
    ret
.endm

.macro guest_store
    stp     x0, x1, [sp]
    stp     x2, x3, [sp, #8 * 2]
    stp     x4, x5, [sp, #8 * 4]
    stp     x6, x7, [sp, #8 * 6]
    stp     x8, x9, [sp, #8 * 8]
    stp     x10, x11, [sp, #8 * 10]
    stp     x12, x13, [sp, #8 * 12]
    stp     x14, x15, [sp, #8 * 14]
    stp     x16, x17, [sp, #8 * 16]
    stp     x18, x19, [sp, #8 * 18]
    stp     x20, x21, [sp, #8 * 20]
    stp     x22, x23, [sp, #8 * 22]
    stp     x24, x25, [sp, #8 * 24]
    stp     x26, x27, [sp, #8 * 26]
    stp     x28, x29, [sp, #8 * 28]
    str     x30, [sp, #8 * 30]
.endm

// The vectors. Only the third group, a lower level in AArch64, is ever survived: the hypervisor masks
// its own interrupts and EL1 is never AArch32. A slot holds 32 instructions.
.section .text.vectors, "ax"
.global hypervisor_vectors
.balign 0x800
hypervisor_vectors:
.irp kind, 0, 1, 2, 3, 4, 5, 6, 7
    .balign 0x80
    msr     tpidr_el1, x0               // the machine stops: the guest's registers are free
    mov     x0, #\kind
    b       hypervisor_fault
.endr
    .balign 0x80                        // synchronous
    guest_store
    mov     x0, #{REASON_SYNC}
    guest_leave
    .balign 0x80                        // IRQ
    guest_store
    mov     x0, #{REASON_IRQ}
    guest_leave
    .balign 0x80                        // FIQ
    guest_store
    mov     x0, #{REASON_IRQ}
    guest_leave
    .balign 0x80                        // SError
    guest_store
    mov     x0, #{REASON_SERROR}
    guest_leave
.irp kind, 12, 13, 14, 15
    .balign 0x80
    msr     tpidr_el1, x0
    mov     x0, #\kind
    b       hypervisor_fault
.endr
    .balign 0x80

// Floating point. x0 = FloatingPoint; clobbers x1, x2.
.arch_extension fp
.arch_extension simd
.section .text.fp, "ax"
.global fp_save
fp_save:
    stp     q0, q1, [x0, #16 * 0]
    stp     q2, q3, [x0, #16 * 2]
    stp     q4, q5, [x0, #16 * 4]
    stp     q6, q7, [x0, #16 * 6]
    stp     q8, q9, [x0, #16 * 8]
    stp     q10, q11, [x0, #16 * 10]
    stp     q12, q13, [x0, #16 * 12]
    stp     q14, q15, [x0, #16 * 14]
    stp     q16, q17, [x0, #16 * 16]
    stp     q18, q19, [x0, #16 * 18]
    stp     q20, q21, [x0, #16 * 20]
    stp     q22, q23, [x0, #16 * 22]
    stp     q24, q25, [x0, #16 * 24]
    stp     q26, q27, [x0, #16 * 26]
    stp     q28, q29, [x0, #16 * 28]
    stp     q30, q31, [x0, #16 * 30]
    mrs     x1, fpcr
    mrs     x2, fpsr
    add     x0, x0, #{FP_CONTROL}
    stp     x1, x2, [x0]
    ret
.global fp_load
fp_load:
    ldp     q0, q1, [x0, #16 * 0]
    ldp     q2, q3, [x0, #16 * 2]
    ldp     q4, q5, [x0, #16 * 4]
    ldp     q6, q7, [x0, #16 * 6]
    ldp     q8, q9, [x0, #16 * 8]
    ldp     q10, q11, [x0, #16 * 10]
    ldp     q12, q13, [x0, #16 * 12]
    ldp     q14, q15, [x0, #16 * 14]
    ldp     q16, q17, [x0, #16 * 16]
    ldp     q18, q19, [x0, #16 * 18]
    ldp     q20, q21, [x0, #16 * 20]
    ldp     q22, q23, [x0, #16 * 22]
    ldp     q24, q25, [x0, #16 * 24]
    ldp     q26, q27, [x0, #16 * 26]
    ldp     q28, q29, [x0, #16 * 28]
    ldp     q30, q31, [x0, #16 * 30]
    add     x0, x0, #{FP_CONTROL}
    ldp     x1, x2, [x0]
    msr     fpcr, x1
    msr     fpsr, x2
    ret
