// Entry from the loader and from PSCI, at EL1 with the MMU off.
//
// The image starts with the header of the arm64 boot protocol (Linux, Documentation/arch/arm64/booting.rst).
// All of it is linked at IMAGE_BASE; until the MMU is on, `adrp` gives the addresses where things really are.
// The tables map the first GiB as device registers, the seven after it as they are, and the image where it is linked.

.section .head, "ax"
.global image_head
image_head:
    b       first_start
    .long   0
    .quad   0                           // text_offset: anywhere aligned to 2 MiB
    .quad   image_size                  // working memory included, from image.ld
    .quad   0b1010                      // little-endian, 4 KiB pages, anywhere in memory
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

// The first processor. In: x0 = address of the device tree.
first_start:
    mrs     x21, cntvct_el0             // when it began
    mov     x19, x0
    adrp    x20, image_head             // where the image is
    tst     x20, #0x1fffff
    b.ne    stop
    lsr     x1, x20, #33
    cbnz    x1, stop                    // the map reaches 8 GiB
    lsr     x1, x20, #30
    cbz     x1, stop                    // and its first GiB holds registers

    adrp    x0, bss_start               // stale cache lines must not cover what is written now
    adrp    x1, bss_end
    bl      forget_lines
    adrp    x0, bss_start
    adrp    x1, bss_end
0:  stp     xzr, xzr, [x0], #16
    stp     xzr, xzr, [x0], #16
    cmp     x0, x1
    b.lo    0b

    adrp    x0, {root}
    adrp    x1, {low}
    orr     x2, x1, #3
    str     x2, [x0]
    ldr     x2, ={DEVICE_BLOCK}         // the first GiB, by blocks of 2 MiB
    mov     x3, #512
0:  str     x2, [x1], #8
    add     x2, x2, #0x200, lsl #12
    subs    x3, x3, #1
    b.ne    0b
    ldr     x2, ={NORMAL_BLOCK} + (1 << 30)
    add     x1, x0, #8
    mov     x3, #7
    mov     x4, #1 << 30
0:  str     x2, [x1], #8
    add     x2, x2, x4
    subs    x3, x3, #1
    b.ne    0b
    adrp    x1, {image}
    orr     x2, x1, #3
    str     x2, [x0, #511 * 8]
    ldr     x2, ={NORMAL_BLOCK}
    orr     x2, x2, x20
    mov     x3, #4
0:  str     x2, [x1], #8
    add     x2, x2, #0x200, lsl #12
    subs    x3, x3, #1
    b.ne    0b

    adrp    x0, bss_start               // nor lines that were fetched meanwhile
    adrp    x1, bss_end
    bl      forget_lines
    bl      mmu_on
    ldr     x2, =first_virtual
    br      x2

// Another processor. In: x0 = its number.
.global secondary_start
secondary_start:
    mov     x19, x0
    bl      mmu_on
    ldr     x2, =next_virtual
    br      x2

// Forgets the data cache lines from x0 to x1. Clobbers x0, x2, x3.
forget_lines:
    mrs     x2, ctr_el0
    ubfx    x2, x2, #16, #4
    mov     x3, #4
    lsl     x3, x3, x2
0:  dc      ivac, x0
    add     x0, x0, x3
    cmp     x0, x1
    b.lo    0b
    dsb     sy
    ret

// Turns the MMU and caches on. Clobbers x0 to x2.
mmu_on:
    msr     daifset, #0xf
    msr     spsel, #1
    ldr     x0, ={MAIR}
    msr     mair_el1, x0
    ldr     x0, ={TCR}
    mrs     x1, id_aa64mmfr0_el1
    bfi     x0, x1, #32, #3             // as many physical address bits as there are
    msr     tcr_el1, x0
    adrp    x0, {root}
    msr     ttbr0_el1, x0
    tlbi    vmalle1
    ic      iallu
    dsb     nsh
    isb
    ldr     x0, ={SCTLR}
    msr     sctlr_el1, x0
    isb
    ret

stop:
    wfe
    b       stop

.section .text.boot, "ax"
first_virtual:
    mov     x0, #0
    bl      own_state
    mov     x0, x19
    adrp    x1, image_head
    sub     x1, x20, x1                 // what to add to a linked address to get the real one
    mov     x2, x21
    mov     x29, #0
    mov     x30, #0
    b       {first_main}

next_virtual:
    mov     x0, x19
    bl      own_state
    mov     x0, x19
    mov     x29, #0
    mov     x30, #0
    b       {next_main}

// Gives processor x0 its stack, vectors and number. Clobbers x1, x2.
own_state:
    adrp    x1, stacks_start
    add     x2, x0, #1
    add     x1, x1, x2, lsl #15         // STACK_SIZE of image.ld
    mov     sp, x1
    msr     tpidr_el1, x0
    adrp    x1, vectors
    add     x1, x1, :lo12:vectors
    msr     vbar_el1, x1
    isb
    ret
