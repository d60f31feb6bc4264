// What the measured domain runs, copied to the start of its memory, MMU off. Its second page is a mailbox:
//   0x00 OUT: how far it is (1: faults counted, waits for events)    0x08 OUT: ticks that the faults took
//   0x10 OUT: what the two memory operations answered
//   0x40 IN: how many faults    0x48 IN: version of the interrupt controller
// Its third page has requests that Dom0 prepared: add_to_physmap at 0x000, decrease_reservation at 0x100, the event
// to send at 0x200. Its fourth becomes the shared page, its sixth is given back.

.section .rodata.measured_child, "a"
.balign 2048
.global measured_child
.global measured_child_end
measured_child:
    b       0f
.org measured_child + 0x200            // a synchronous exception: go on behind the load
    mrs     x6, elr_el1
    add     x6, x6, #4
    msr     elr_el1, x6
    eret
0:  adr     x20, measured_child
    add     x21, x20, #0x1000
    add     x22, x20, #0x2000
    add     x23, x20, #0x3000
    add     x24, x20, #0x5000
    msr     vbar_el1, x20
    isb
    mov     x0, #7                      // XENMEM_add_to_physmap
    mov     x1, x22
    mov     x16, #12
    hvc     #0xea1
    str     x0, [x21, #0x10]
    mov     x0, #1                      // XENMEM_decrease_reservation
    add     x1, x22, #0x100
    mov     x16, #12
    hvc     #0xea1
    str     x0, [x21, #0x18]

    ldr     x2, [x21, #0x40]
    isb
    mrs     x3, cntvct_el0
1:  ldr     x4, [x24]
    subs    x2, x2, #1
    b.ne    1b
    isb
    mrs     x5, cntvct_el0
    sub     x5, x5, x3
    str     x5, [x21, #0x08]

    ldr     x26, [x21, #0x48]
    ldr     x0, ={DISTRIBUTOR}
    cmp     x26, #2
    b.eq    3f
    mov     w1, #0x12                   // distributor: affinity routing, group 1
    str     w1, [x0]
    ldr     x0, ={PRIVATE_FRAME}
    mov     w1, #-1
    str     w1, [x0, #0x80]             // all in group 1
    mov     w1, #1 << 31                // the event interrupt, 31
    str     w1, [x0, #0x100]
    mov     x1, #7
    msr     icc_sre_el1, x1
    isb
    mov     x1, #0xf0
    msr     icc_pmr_el1, x1
    mov     x1, #1
    msr     icc_igrpen1_el1, x1
    isb
    b       4f
3:  mov     w1, #1 << 31                // the event interrupt, 31
    str     w1, [x0, #0x100]
    mov     w1, #1
    str     w1, [x0]
    ldr     x25, ={CPU_INTERFACE}
    mov     w1, #0xf0
    str     w1, [x25, #0x4]             // priority mask
    mov     w1, #1
    str     w1, [x25]
4:  mov     x1, #1
    str     x1, [x21]
    dsb     sy
    cmp     x26, #2
    b.eq    5f

2:  wfi
    mrs     x0, icc_iar1_el1
    cmp     w0, #31
    b.ne    2b
    dsb     sy
    strb    wzr, [x23, #{UPCALL_PENDING}]
    str     xzr, [x23, #{SELECTOR}]
    str     xzr, [x23, #{PENDING}]
    msr     icc_eoir1_el1, x0
    isb
    mov     x0, #4                      // EVTCHNOP_send
    add     x1, x22, #0x200
    mov     x16, #32
    hvc     #0xea1
    b       2b

5:  wfi
    ldr     w0, [x25, #0xc]             // acknowledge
    and     w1, w0, #0x3ff
    cmp     w1, #31
    b.ne    5b
    dsb     sy
    strb    wzr, [x23, #{UPCALL_PENDING}]
    str     xzr, [x23, #{SELECTOR}]
    str     xzr, [x23, #{PENDING}]
    str     w0, [x25, #0x10]            // end
    mov     x0, #4                      // EVTCHNOP_send
    add     x1, x22, #0x200
    mov     x16, #32
    hvc     #0xea1
    b       5b
.ltorg
measured_child_end:
