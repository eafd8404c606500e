//! A program without std that holds the protocol crates. If one of them, or anything below it,
//! brings std in, then there are two panic handlers and this does not build. It is never run.

#![no_std]
#![no_main]

use mainstay_consensus as _;
use mainstay_detect as _;
use mainstay_model as _;

use core::alloc::{GlobalAlloc, Layout};

struct Nothing;

// SAFETY: null is how an allocator says that it has no memory, and nothing is ever handed out that
// could be given back.
unsafe impl GlobalAlloc for Nothing {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Nothing = Nothing;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// SAFETY: the name is the one that the linker looks for, and nothing else here defines it.
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    loop {}
}

// SAFETY: core and alloc come compiled for unwinding and name this function; nothing unwinds here,
// since every panic ends in the loop above.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
