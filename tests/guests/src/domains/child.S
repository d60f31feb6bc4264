// What a created domain runs, copied to the start of its memory, MMU off. Its second page is a mailbox:
//   0x00 it lives        0x08 domctl's answer    0x10 sysctl's answer    0x18 send's answer
//   0x20 to be shared memory's first word: what a load of Dom0's memory gave (left alone if it faults)
//   0x40 IN: port to send on    0x44 IN: shutdown reason, 0xff to spin for ever
// Its third page has requests that Dom0 prepared: domctl at 0x000, sysctl at 0x400, send at 0x800.

.section .rodata.child, "a"
.balign 16
.global child_start
.global child_end
child_start:
    adr     x20, child_start
    add     x21, x20, #0x1000
    add     x22, x20, #0x2000
    ldr     w1, [x21, #0x40]            // the port
    str     w1, [x22, #0x800]
    mov     x0, x22
    mov     x16, #36
    hvc     #0xea1
    str     x0, [x21, #0x08]
    add     x0, x22, #0x400
    mov     x16, #35
    hvc     #0xea1
    str     x0, [x21, #0x10]
    mov     x0, #4                      // EVTCHNOP_send
    add     x1, x22, #0x800
    mov     x16, #32
    hvc     #0xea1
    str     x0, [x21, #0x18]
    mov     x1, #0x600d
    str     x1, [x21]
    dsb     sy
    ldr     w1, [x21, #0x44]
    cmp     w1, #0xff
    b.eq    .
    str     w1, [x22, #0xc00]
    mov     x0, #2                      // SCHEDOP_shutdown
    add     x1, x22, #0xc00
    mov     x16, #29
    hvc     #0xea1
    b       .
child_end:
