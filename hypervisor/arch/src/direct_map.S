// Copying and clearing memory that guests may change meanwhile.

// direct_copy(x0 = to, x1 = from, x2 = length): returns x0, clobbers x1 to x11 and the flags.
// Much is copied by eight vector registers, which are the guest's and are put back.
.arch_extension fp
.arch_extension simd
.section .text.direct_copy, "ax"
.global direct_copy
.balign 64
direct_copy:
    cmp     x2, #512                    // from here on it is worth saving them
    b.lo    1f
    mov     x11, x0
    sub     sp, sp, #128
    stp     q0, q1, [sp]
    stp     q2, q3, [sp, #32]
    stp     q4, q5, [sp, #64]
    stp     q6, q7, [sp, #96]
    sub     x2, x2, #256
0:  ldp     q0, q1, [x1], #256
    ldp     q2, q3, [x1, #-224]
    ldp     q4, q5, [x1, #-192]
    ldp     q6, q7, [x1, #-160]
    stp     q0, q1, [x0], #256
    stp     q2, q3, [x0, #-224]
    stp     q4, q5, [x0, #-192]
    stp     q6, q7, [x0, #-160]
    ldp     q0, q1, [x1, #-128]
    ldp     q2, q3, [x1, #-96]
    ldp     q4, q5, [x1, #-64]
    ldp     q6, q7, [x1, #-32]
    stp     q0, q1, [x0, #-128]
    stp     q2, q3, [x0, #-96]
    stp     q4, q5, [x0, #-64]
    stp     q6, q7, [x0, #-32]
    subs    x2, x2, #256
    b.hs    0b
    add     x2, x2, #256
    ldp     q0, q1, [sp]
    ldp     q2, q3, [sp, #32]
    ldp     q4, q5, [sp, #64]
    ldp     q6, q7, [sp, #96]
    add     sp, sp, #128
    cbnz    x2, 9f
    mov     x0, x11
    ret
1:  cmp     x2, #4                      // an event channel's port, most often
    b.ne    memcpy
    ldr     w3, [x1]
    str     w3, [x0]
    ret

// The compiler's memcpy, whose own moves eight bytes in four instructions. Also before vector registers are allowed.
.global memcpy
memcpy:
    mov     x11, x0
9:  subs    x2, x2, #128
    b.lo    2f
1:  ldp     x3, x4, [x1], #64
    ldp     x5, x6, [x1, #-48]
    ldp     x7, x8, [x1, #-32]
    ldp     x9, x10, [x1, #-16]
    stp     x3, x4, [x0], #64
    stp     x5, x6, [x0, #-48]
    stp     x7, x8, [x0, #-32]
    stp     x9, x10, [x0, #-16]
    ldp     x3, x4, [x1], #64
    ldp     x5, x6, [x1, #-48]
    ldp     x7, x8, [x1, #-32]
    ldp     x9, x10, [x1, #-16]
    stp     x3, x4, [x0], #64
    stp     x5, x6, [x0, #-48]
    stp     x7, x8, [x0, #-32]
    stp     x9, x10, [x0, #-16]
    subs    x2, x2, #128
    b.hs    1b
2:  tbz     x2, #6, 2f                  // x2 is the rest less 128: its low bits are the rest's
    ldp     x3, x4, [x1], #64
    ldp     x5, x6, [x1, #-48]
    ldp     x7, x8, [x1, #-32]
    ldp     x9, x10, [x1, #-16]
    stp     x3, x4, [x0], #64
    stp     x5, x6, [x0, #-48]
    stp     x7, x8, [x0, #-32]
    stp     x9, x10, [x0, #-16]
2:  tbz     x2, #5, 3f
    ldp     x3, x4, [x1], #16
    ldp     x5, x6, [x1], #16
    stp     x3, x4, [x0], #16
    stp     x5, x6, [x0], #16
3:  tbz     x2, #4, 4f
    ldp     x3, x4, [x1], #16
    stp     x3, x4, [x0], #16
4:  tbz     x2, #3, 5f
    ldr     x3, [x1], #8
    str     x3, [x0], #8
5:  tbz     x2, #2, 6f
    ldr     w3, [x1], #4
    str     w3, [x0], #4
6:  tbz     x2, #1, 7f
    ldrh    w3, [x1], #2
    strh    w3, [x0], #2
7:  tbz     x2, #0, 8f
    ldrb    w3, [x1]
    strb    w3, [x0]
8:  mov     x0, x11
    ret

// direct_zero(x0 = page, x1 = DCZID_EL0): clobbers x0 to x3 and the flags.
.section .text.direct_zero, "ax"
.global direct_zero
.balign 64
direct_zero:
    add     x2, x0, #4096
    tbnz    x1, #4, 2f                  // DC ZVA is prohibited
    mov     x3, #4
    lsl     x3, x3, x1                  // bytes in a block; at most 2048
    cmp     x3, #64
    b.ne    1f
0:  dc      zva, x0                     // the usual size, four at a time
    add     x1, x0, #64
    dc      zva, x1
    add     x1, x0, #128
    dc      zva, x1
    add     x1, x0, #192
    dc      zva, x1
    add     x0, x0, #256
    cmp     x0, x2
    b.lo    0b
    ret
1:  dc      zva, x0
    add     x0, x0, x3
    cmp     x0, x2
    b.lo    1b
    ret
2:  stp     xzr, xzr, [x0], #16
    stp     xzr, xzr, [x0], #16
    cmp     x0, x2
    b.lo    2b
    ret
