//! Aligned memory for direct IO, and a pool of it.
//!
//! A buffer becomes a `Bytes` once it is written; when the last reader on any thread lets go of it, the memory goes
//! back to the pool it came from.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use crate::log::{BLOCK_BYTES, round_up};

/// Memory that begins at a multiple of 4 KiB and is whole blocks long.
pub struct AlignedBuf {
    /// Invariant: allocated with [`layout`]`(capacity)`, initialised all over, owned by this alone.
    ptr: NonNull<u8>,
    capacity: usize,
    home: Option<Arc<BufferPool>>,
}

// SAFETY: the buffer owns its memory alone and has no thread-bound state; a shared reference only reads.
unsafe impl Send for AlignedBuf {}
// SAFETY: as above; there is no interior mutability.
unsafe impl Sync for AlignedBuf {}

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, BLOCK_BYTES).expect("capacities are far below isize::MAX")
}

impl AlignedBuf {
    /// Zeroed memory of at least `bytes` bytes, rounded up to whole blocks.
    ///
    /// # Panics
    /// When `bytes` is 0.
    #[must_use]
    pub fn zeroed(bytes: usize) -> Self {
        assert!(bytes > 0, "an empty buffer cannot be allocated");
        let capacity = round_up(bytes);
        // SAFETY: the layout has a size above 0.
        let raw = unsafe { alloc_zeroed(layout(capacity)) };
        let Some(ptr) = NonNull::new(raw) else { handle_alloc_error(layout(capacity)) };
        Self { ptr, capacity, home: None }
    }

    /// Aligned memory that holds a copy of `bytes`.
    ///
    /// # Panics
    /// When `bytes` is not whole blocks long.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        let capacity = bytes.len();
        assert!(capacity > 0 && capacity.is_multiple_of(BLOCK_BYTES), "an extent is whole blocks long");
        // SAFETY: the layout has a size above 0.
        let raw = unsafe { alloc(layout(capacity)) };
        let Some(ptr) = NonNull::new(raw) else { handle_alloc_error(layout(capacity)) };
        // SAFETY: both are `capacity` bytes long, and the new memory is nobody else's. All of it is initialised by this.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), ptr.as_ptr(), capacity) };
        Self { ptr, capacity, home: None }
    }

    /// Bytes it holds.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// All of it.
    #[must_use]
    pub const fn as_slice(&self) -> &[u8] {
        // SAFETY: by the invariant of `ptr`, `capacity` initialised bytes are there for as long as `self` is.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.capacity) }
    }

    /// All of it, to write.
    #[must_use]
    pub const fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `&mut self` makes it exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.capacity) }
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({})", self.capacity)
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            let memory = Self { ptr: self.ptr, capacity: self.capacity, home: None };
            // A full pool gives the memory back as an error; it is freed there, by the same drop without a home.
            drop(home.free.push(memory));
            return;
        }
        // SAFETY: by the invariant of `ptr` this is the layout it was allocated with, and nobody else has it.
        unsafe { dealloc(self.ptr.as_ptr(), layout(self.capacity)) }
    }
}

/// Buffers of one size, kept for the next extent. Holds at most as many as it was made for; more are freed.
#[derive(Debug)]
pub struct BufferPool {
    free: ArrayQueue<AlignedBuf>,
    buffer_bytes: usize,
}

impl BufferPool {
    /// A pool that keeps up to `buffers_max` buffers of `buffer_bytes`.
    #[must_use]
    pub fn new(buffer_bytes: usize, buffers_max: usize) -> Arc<Self> {
        Arc::new(Self { free: ArrayQueue::new(buffers_max), buffer_bytes })
    }

    /// A buffer with whatever bytes its last user left.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> AlignedBuf {
        let mut buf = self.free.pop().unwrap_or_else(|| AlignedBuf::zeroed(self.buffer_bytes));
        buf.home = Some(Arc::clone(self));
        buf
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn aligned_memory_is_aligned_and_stays_where_it_is() {
        for len in [1, 4096, 1 << 20] {
            let copied = AlignedBuf::copy_of(&vec![7; round_up(len)]);
            assert!(copied.as_slice().iter().all(|byte| *byte == 7));
            for memory in [AlignedBuf::zeroed(len), copied] {
                let address = memory.as_slice().as_ptr();
                assert_eq!(address.align_offset(BLOCK_BYTES), 0);
                let bytes = Bytes::from_owner(memory);
                assert_eq!((bytes.as_ptr(), bytes.len()), (address, round_up(len)));
            }
        }
    }

    #[test]
    fn memory_goes_home_from_any_thread() {
        let pool = BufferPool::new(5000, 1);
        let first = pool.take();
        assert_eq!(first.capacity(), 8192);
        assert_eq!(first.as_slice().as_ptr() as usize % BLOCK_BYTES, 0);
        let address = first.as_slice().as_ptr() as usize;
        let shared = Bytes::from_owner(first);
        let part = shared.slice(10..20);
        drop(shared);
        std::thread::spawn(move || drop(part)).join().expect("no panic");
        let again = pool.take();
        assert_eq!(again.as_slice().as_ptr() as usize, address);
        let (extra, more) = (pool.take(), pool.take());
        drop((again, extra, more));
        assert_eq!(pool.free.len(), 1, "the pool keeps no more than it was made for");
    }
}
