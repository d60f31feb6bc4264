// Copying, filling and comparing memory, for the compiler's calls and for pages that others may write meanwhile. The routines that come with the
// target may run where accesses must be aligned, and go byte by byte where two addresses are not aligned alike. No Rust runs here before memory is
// mapped as normal, with SCTLR_EL1.A 0 (boot.S), and then accesses need no alignment. A guest may have its own: these are weak.

// memcpy(x0 = to, x1 = from, x2 = length) and guest_copy alike: reads and writes each byte once, in rising order, a piece of up to 64 bytes
// read before it is written. Returns x0. Clobbers x1 to x11 and the flags.
.section .text.guest_copy, "ax"
.weak memcpy
.global guest_copy
.balign 16
memcpy:
guest_copy:
    mov     x3, x0
    subs    x2, x2, #64
    b.lo    2f
1:  ldp     x4, x5, [x1], #64
    ldp     x6, x7, [x1, #-48]
    ldp     x8, x9, [x1, #-32]
    ldp     x10, x11, [x1, #-16]
    stp     x4, x5, [x3], #64
    stp     x6, x7, [x3, #-48]
    stp     x8, x9, [x3, #-32]
    stp     x10, x11, [x3, #-16]
    subs    x2, x2, #64
    b.hs    1b
2:  tbz     x2, #5, 3f                  // x2 is the rest less 64: its low bits are the rest's
    ldp     x4, x5, [x1], #32
    ldp     x6, x7, [x1, #-16]
    stp     x4, x5, [x3], #32
    stp     x6, x7, [x3, #-16]
3:  tbz     x2, #4, 4f
    ldp     x4, x5, [x1], #16
    stp     x4, x5, [x3], #16
4:  tbz     x2, #3, 5f
    ldr     x4, [x1], #8
    str     x4, [x3], #8
5:  tbz     x2, #2, 6f
    ldr     w4, [x1], #4
    str     w4, [x3], #4
6:  tbz     x2, #1, 7f
    ldrh    w4, [x1], #2
    strh    w4, [x3], #2
7:  tbz     x2, #0, 8f
    ldrb    w4, [x1]
    strb    w4, [x3]
8:  ret

// memmove(x0 = to, x1 = from, x2 = length), which may overlap. Returns x0. Clobbers x1 to x11 and the flags.
.section .text.memmove, "ax"
.weak memmove
.balign 16
memmove:
    sub     x3, x0, x1
    cmp     x3, x2
    b.hs    guest_copy                  // no byte is written before it was read
    add     x1, x1, x2
    add     x3, x0, x2
    subs    x2, x2, #64
    b.lo    2f
1:  ldp     x4, x5, [x1, #-16]
    ldp     x6, x7, [x1, #-32]
    ldp     x8, x9, [x1, #-48]
    ldp     x10, x11, [x1, #-64]!
    stp     x4, x5, [x3, #-16]
    stp     x6, x7, [x3, #-32]
    stp     x8, x9, [x3, #-48]
    stp     x10, x11, [x3, #-64]!
    subs    x2, x2, #64
    b.hs    1b
2:  tbz     x2, #5, 3f
    ldp     x4, x5, [x1, #-16]
    ldp     x6, x7, [x1, #-32]!
    stp     x4, x5, [x3, #-16]
    stp     x6, x7, [x3, #-32]!
3:  tbz     x2, #4, 4f
    ldp     x4, x5, [x1, #-16]!
    stp     x4, x5, [x3, #-16]!
4:  tbz     x2, #3, 5f
    ldr     x4, [x1, #-8]!
    str     x4, [x3, #-8]!
5:  tbz     x2, #2, 6f
    ldr     w4, [x1, #-4]!
    str     w4, [x3, #-4]!
6:  tbz     x2, #1, 7f
    ldrh    w4, [x1, #-2]!
    strh    w4, [x3, #-2]!
7:  tbz     x2, #0, 8f
    ldrb    w4, [x1, #-1]
    strb    w4, [x3, #-1]
8:  ret

// memset(x0 = to, w1 = byte, x2 = length). Returns x0. Clobbers x1 to x3 and the flags.
.section .text.memset, "ax"
.weak memset
.balign 16
memset:
    and     x1, x1, #0xff
    orr     x1, x1, x1, lsl #8
    orr     x1, x1, x1, lsl #16
    orr     x1, x1, x1, lsl #32
    mov     x3, x0
    subs    x2, x2, #64
    b.lo    2f
1:  stp     x1, x1, [x3], #64
    stp     x1, x1, [x3, #-48]
    stp     x1, x1, [x3, #-32]
    stp     x1, x1, [x3, #-16]
    subs    x2, x2, #64
    b.hs    1b
2:  tbz     x2, #5, 3f
    stp     x1, x1, [x3], #32
    stp     x1, x1, [x3, #-16]
3:  tbz     x2, #4, 4f
    stp     x1, x1, [x3], #16
4:  tbz     x2, #3, 5f
    str     x1, [x3], #8
5:  tbz     x2, #2, 6f
    str     w1, [x3], #4
6:  tbz     x2, #1, 7f
    strh    w1, [x3], #2
7:  tbz     x2, #0, 8f
    strb    w1, [x3]
8:  ret

// memcmp(x0, x1 = two places, x2 = length) and bcmp alike: returns in w0 what the first bytes that differ make of the whole, less, equal or
// greater than 0. Clobbers x1 to x4 and the flags.
.section .text.memcmp, "ax"
.weak memcmp
.weak bcmp
.balign 16
memcmp:
bcmp:
    subs    x2, x2, #8
    b.lo    2f
1:  ldr     x3, [x0], #8
    ldr     x4, [x1], #8
    cmp     x3, x4
    b.ne    5f
    subs    x2, x2, #8
    b.hs    1b
2:  adds    x2, x2, #8
    b.eq    4f
3:  ldrb    w3, [x0], #1
    ldrb    w4, [x1], #1
    subs    w3, w3, w4
    b.ne    4f
    subs    x2, x2, #1
    b.ne    3b
4:  csel    w0, wzr, w3, eq
    ret
5:  rev     x3, x3                      // the byte at the lowest address decides
    rev     x4, x4
    cmp     x3, x4
    mov     w0, #1
    cneg    w0, w0, lo
    ret
