// Entry from the loader and from PSCI, with the MMU and data cache off.
//
// The image starts with the header of the arm64 boot protocol (Linux, Documentation/arch/arm64/booting.rst).
// All of it is linked at IMAGE_BASE; until the MMU is on, `adrp` gives the addresses where things really are.
// `image.ld` puts .head into one page, which is also mapped where it really is, so that execution goes
// on when the MMU comes on.

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

// The first processor. In: x0 = machine address of the device tree.
first_start:
    mov     x19, x0
    mrs     x1, CurrentEL
    cmp     x1, #2 << 2
    b.ne    wrong_level
    adrp    x20, image_head             // where the image is
    lsr     x1, x20, #46
    cbnz    x1, stop                    // the identity map would run into the windows

    adrp    x0, bss_start               // stale cache lines must not cover what is written now
    adrp    x1, bss_end
    bl      forget_lines
    adrp    x0, bss_start
    adrp    x1, bss_end
0:  stp     xzr, xzr, [x0], #16
    stp     xzr, xzr, [x0], #16
    cmp     x0, x1
    b.lo    0b

    // One page, where it is.
    adrp    x0, {root}
    adrp    x1, {identity_l1}
    ubfx    x3, x20, #39, #9
    orr     x2, x1, #3
    str     x2, [x0, x3, lsl #3]
    adrp    x0, {identity_l2}
    ubfx    x3, x20, #30, #9
    orr     x2, x0, #3
    str     x2, [x1, x3, lsl #3]
    adrp    x1, {identity_l3}
    ubfx    x3, x20, #21, #9
    orr     x2, x1, #3
    str     x2, [x0, x3, lsl #3]
    ubfx    x3, x20, #12, #9
    mov     x2, #{PAGE_TEXT}
    orr     x2, x2, x20
    str     x2, [x1, x3, lsl #3]

    // The image, where it is linked: its tables, then its sections.
    adrp    x0, {root}
    adrp    x1, {image_l1}
    orr     x2, x1, #3
    str     x2, [x0, #({IMAGE_BASE} >> 39) * 8]
    adrp    x0, {image_l2}
    orr     x2, x0, #3
    str     x2, [x1]
    adrp    x1, {image_l3}
    mov     x3, #{IMAGE_TABLES}
    orr     x2, x1, #3
0:  str     x2, [x0], #8
    add     x2, x2, #4096
    subs    x3, x3, #1
    b.ne    0b
    adrp    x0, image_head
    adrp    x1, text_end
    ldr     x2, =({PAGE_TEXT})
    bl      map_image
    adrp    x0, text_end
    adrp    x1, constants_end
    ldr     x2, =({PAGE_CONSTANTS})
    bl      map_image
    adrp    x0, constants_end
    adrp    x1, stacks_start
    ldr     x2, =({PAGE_DATA})
    bl      map_image
    mov     x21, #{MAX_CPUS}            // each processor's stacks, but not the guard pages
    adrp    x22, stacks_start
0:  add     x0, x22, #4096
    add     x1, x0, #{EMERGENCY_STACK}
    bl      map_image
    add     x0, x1, #4096
    add     x22, x22, #{STACK_STRIDE}
    mov     x1, x22
    bl      map_image
    subs    x21, x21, #1
    b.ne    0b

    adrp    x0, bss_start               // nor lines that were fetched meanwhile
    adrp    x1, bss_end
    bl      forget_lines
    bl      mmu_on
    ldr     x2, =first_virtual
    br      x2

// Another processor, which firmware or a loader left waiting and told nothing (spin-table).
.global waiting_start
waiting_start:
    adrp    x1, {next_number}
    ldr     x0, [x1, :lo12:{next_number}]

// Another processor. In: x0 = its number.
.global secondary_start
secondary_start:
    mov     x19, x0
    mrs     x1, CurrentEL
    cmp     x1, #2 << 2
    b.ne    stop
    bl      mmu_on
    ldr     x2, =next_virtual
    br      x2

// Maps the pages from x0 to x1 (machine addresses within the image) with the attributes x2.
// Clobbers x3 to x5; keeps x0 to x2.
map_image:
    adrp    x3, {image_l3}
    sub     x4, x0, x20
    lsr     x4, x4, #12
    add     x3, x3, x4, lsl #3
    mov     x4, x0
0:  cmp     x4, x1
    b.hs    1f
    orr     x5, x4, x2
    str     x5, [x3], #8
    add     x4, x4, #4096
    b       0b
1:  ret

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
    ldr     x0, ={SCTLR_OFF}
    msr     sctlr_el2, x0
    ldr     x0, ={HCR}                  // no E2H, whatever the loader had
    msr     hcr_el2, x0
    isb
    ldr     x0, ={MAIR}
    msr     mair_el2, x0
    ldr     x0, ={TCR}
    mrs     x1, id_aa64mmfr0_el1        // as many machine address bits as there are, up to 48
    and     x1, x1, #0xf
    mov     x2, #5
    cmp     x1, x2
    csel    x1, x1, x2, lo
    orr     x0, x0, x1, lsl #16
    msr     tcr_el2, x0
    adrp    x0, {root}
    msr     ttbr0_el2, x0
    dsb     sy
    tlbi    alle2
    ic      iallu
    dsb     nsh
    isb
    ldr     x0, ={SCTLR}
    msr     sctlr_el2, x0
    isb
    ret

// Says that EL2 is needed, on the platform's serial port (a PL011 at early_uart; none if that is 0).
wrong_level:
    ldr     x1, =early_uart
    cbz     x1, stop
    adr     x2, wrong_level_text
0:  ldrb    w3, [x2], #1
    cbz     w3, stop
1:  ldr     w4, [x1, #0x18]
    tbnz    w4, #5, 1b
    str     w3, [x1]
    b       0b
stop:
    wfi
    b       stop
wrong_level_text:
    .asciz  "Domus needs to be started at EL2 (QEMU: -machine virtualization=on)\r\n"
    .balign 4
    .ltorg

// From here on addresses are those of linking.
.section .text.boot_virtual, "ax"
first_virtual:
    mov     x0, #0
    bl      processor_on
    mov     x0, x19
    mov     x1, x20
    bl      {first_main}
next_virtual:
    mov     x0, x19
    bl      processor_on
    mov     x0, x19
    bl      {next_main}

// Gives processor x0 its vectors and stack, and an end of its chain of frames. Clobbers x1, x2.
processor_on:
    ldr     x1, =hypervisor_vectors
    msr     vbar_el2, x1
    isb
    ldr     x1, =stacks_start
    add     x0, x0, #1
    mov     x2, #{STACK_STRIDE}
    madd    x1, x0, x2, x1
    mov     sp, x1
    mov     x29, #0
    ret
