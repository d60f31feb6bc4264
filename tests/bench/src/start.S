// A kernel that prints the physical counter as its first instruction finds it, and powers off.
// It calls the hypervisor as public/arch-arm.h says: number in x16, arguments from x0, hvc #0xea1.

.section .kernel, "awx"
.global header
header:
    b       start                       // the arm64 boot protocol's header
    .long   0
    .quad   0                           // text_offset
    .quad   end - header
    .quad   0b1010                      // little-endian, 4 KiB pages, anywhere
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

// Out: nothing; does not return. The stack is not used.
start:
    mrs     x19, cntpct_el0
    adr     x1, digits
    mov     x2, #60                     // from the highest four bits down
0:  lsr     x3, x19, x2
    and     x3, x3, #15
    cmp     x3, #10
    add     x4, x3, #'0'
    add     x5, x3, #'a' - 10
    csel    x3, x4, x5, lo
    strb    w3, [x1], #1
    subs    x2, x2, #4
    b.ge    0b
    mov     x0, #0                      // CONSOLEIO_WRITE
    mov     x1, #end - message
    adr     x2, message
    mov     x16, #18                    // console_io
    hvc     #0xea1
    mov     w0, #0x0008                 // PSCI SYSTEM_OFF
    movk    w0, #0x8400, lsl #16
    hvc     #0
1:  wfi
    b       1b

message:
    .ascii  "first instruction at 0x"
digits:
    .ascii  "0000000000000000\n"
end:
