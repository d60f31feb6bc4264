// An exception of the hypervisor itself: moves to the emergency stack, whatever the stack was worth,
// stores the registers and calls report_fault(kind, frame).
//   in: x0 = vector number, TPIDR_EL1 = the interrupted x0; the guest's registers are free for use.
.section .text.hypervisor_fault, "ax"
.global hypervisor_fault
hypervisor_fault:
    msr     tpidr_el0, x1
    msr     tpidrro_el0, x2
    mrs     x1, tpidr_el2
    ldr     x2, [x1, #{FAULTS}]
    cbnz    x2, 1f
    mov     x2, #1
    str     x2, [x1, #{FAULTS}]
    ldr     x1, [x1, #{EMERGENCY_STACK}]
    mov     x2, sp
    sub     sp, x1, #{SIZE} + 16
    str     x2, [sp, #8 * 31]
    mrs     x1, tpidr_el0
    mrs     x2, tpidrro_el0
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
    mrs     x2, tpidr_el1
    stp     x2, x1, [sp]
    mrs     x1, elr_el2                 // a frame record that makes the fault look like a call
    stp     x29, x1, [sp, #{SIZE}]
    add     x29, sp, #{SIZE}
    mov     x1, sp
    bl      {report_fault}
1:  ldr     x1, [x1, #{EMERGENCY_STACK}]
    mov     sp, x1
    bl      {give_up}
