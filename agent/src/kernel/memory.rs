//! Memory of this process that is there for its weight, and how much the machine has to give.
//!
//! It is charged to the memory control group that this process is in when it is taken.

use std::{fs, num::NonZeroUsize, ptr::NonNull};

use nix::{
    errno::Errno,
    sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap},
};

use super::KernelError;

/// The size of the pages that [`Ballast`] is taken and given back in, in bytes.
pub const PAGE_BYTES: usize = 4096;

/// Private anonymous memory of which a part, from its beginning on, is really there.
#[derive(Debug)]
pub struct Ballast {
    start: NonNull<libc::c_void>,
    reserved: usize,
    held: usize,
    /// Whether the kernel populates (since Linux 5.14); otherwise pages are touched one by one.
    populates: bool,
}

impl Ballast {
    /// Reserves addresses for `bytes`; takes no memory yet.
    ///
    /// # Errors
    /// When there are no such addresses, or the machine allows no overcommitment.
    #[allow(unsafe_code, reason = "mmap(2) and madvise(2) are unsafe in nix")]
    pub fn reserve(bytes: usize) -> Result<Self, KernelError> {
        let reserved = bytes.next_multiple_of(PAGE_BYTES).max(PAGE_BYTES);
        let length = NonZeroUsize::new(reserved).expect("at least one page");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: no address is asked for, so that the mapping replaces none.
        let start = unsafe { mmap_anonymous(None, length, protection, flags) }
            .map_err(|e| KernelError::io("reserve", &format!("{reserved} bytes of memory"), e))?;
        // Huge pages would make the weight a multiple of 2 MiB. A kernel without them says EINVAL.
        // SAFETY: the range is the mapping just made; the advice changes no contents.
        if let Err(error) = unsafe { madvise(start, reserved, MmapAdvise::MADV_NOHUGEPAGE) } {
            tracing::debug!(?error, "no huge pages to keep away");
        }
        Ok(Self { start, reserved, held: 0, populates: true })
    }

    /// How many bytes are there.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes `bytes` more, rounded down to pages and to what is reserved. Returns how many.
    ///
    /// # Errors
    /// When the kernel has no more and kills nobody for it (`ENOMEM`); what is held stays as it was.
    pub fn grow(&mut self, bytes: usize) -> Result<usize, KernelError> {
        let bytes = bytes.min(self.reserved - self.held) / PAGE_BYTES * PAGE_BYTES;
        if bytes == 0 {
            return Ok(0);
        }
        if self.populates {
            match self.advise(self.held, bytes, MmapAdvise::MADV_POPULATE_WRITE) {
                Ok(()) => {}
                Err(Errno::EINVAL) => self.populates = false,
                Err(e) => {
                    // Part of it may be there: nobody must wonder later whose that is.
                    if let Err(error) = self.advise(self.held, bytes, MmapAdvise::MADV_DONTNEED) {
                        tracing::debug!(?error, "cannot give back what was half taken");
                    }
                    return Err(KernelError::io("take", &format!("{bytes} bytes of memory"), e));
                }
            }
        }
        if !self.populates {
            self.touch(self.held, bytes);
        }
        self.held += bytes;
        Ok(bytes)
    }

    /// Gives `bytes` back, rounded up to pages; at most what is held.
    ///
    /// # Errors
    /// When the kernel refuses; what is held is then as it was.
    pub fn shrink(&mut self, bytes: usize) -> Result<(), KernelError> {
        let bytes = bytes.next_multiple_of(PAGE_BYTES).min(self.held);
        if bytes == 0 {
            return Ok(());
        }
        let offset = self.held - bytes;
        self.advise(offset, bytes, MmapAdvise::MADV_DONTNEED)
            .map_err(|e| KernelError::io("give back", &format!("{bytes} bytes of memory"), e))?;
        self.held = offset;
        Ok(())
    }

    #[allow(unsafe_code, reason = "madvise(2) is unsafe in nix")]
    fn advise(&self, offset: usize, bytes: usize, advice: MmapAdvise) -> Result<(), Errno> {
        debug_assert!(offset + bytes <= self.reserved, "inside of the mapping");
        // SAFETY: callers keep the range inside of the mapping (asserted above), which is ours until
        // drop. Nothing refers to its contents, so that losing them (DONTNEED) is of no consequence.
        unsafe { madvise(self.start.byte_add(offset), bytes, advice) }
    }

    #[allow(unsafe_code, reason = "a page is there once it has been written to")]
    fn touch(&self, offset: usize, bytes: usize) {
        for page in (offset..offset + bytes).step_by(PAGE_BYTES) {
            // SAFETY: the byte lies inside of the mapping, which is writable and ours until drop.
            unsafe { self.start.cast::<u8>().byte_add(page).write_volatile(1) };
        }
    }
}

impl Drop for Ballast {
    #[allow(unsafe_code, reason = "munmap(2) is unsafe in nix")]
    fn drop(&mut self) {
        // SAFETY: the range is the mapping made in `reserve`, unmapped once, and nothing refers to it.
        if let Err(error) = unsafe { munmap(self.start, self.reserved) } {
            tracing::warn!(?error, "cannot unmap memory of ours");
        }
    }
}

/// What the machine has to give, of `/proc/meminfo`, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineMemory {
    /// `MemTotal`.
    pub total: u64,
    /// `MemAvailable`: free, or to be had without swapping (`proc_meminfo(5)`).
    pub available: u64,
}

impl MachineMemory {
    /// Reads it.
    ///
    /// # Errors
    /// When `/proc/meminfo` cannot be read or lacks them.
    pub fn now() -> Result<Self, KernelError> {
        let path = "/proc/meminfo";
        let text = fs::read_to_string(path).map_err(|e| KernelError::io("read", path, e))?;
        let field = |name: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 = rest.trim().strip_suffix(" kB")?.trim().parse().ok()?;
            kib.checked_mul(1024)
        };
        let missing = || KernelError::Unexpected {
            verb: "read",
            object: path.into(),
            problem: "no MemTotal or MemAvailable".into(),
        };
        Ok(Self {
            total: field("MemTotal:").ok_or_else(missing)?,
            available: field("MemAvailable:").ok_or_else(missing)?,
        })
    }
}

/// How many processes the kernel has killed for lack of memory since boot, whichever limit that was
/// (`oom_kill` of `/proc/vmstat`, since Linux 4.13). 0 where it cannot be read.
pub fn oom_kills_on_machine() -> u64 {
    let text = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ballast_is_held_to_the_page_and_given_back() {
        let mut ballast = Ballast::reserve(1 << 20).unwrap();
        assert_eq!(ballast.grow(10_000).unwrap(), 8192, "whole pages");
        assert_eq!(ballast.grow(usize::MAX).unwrap(), (1 << 20) - 8192, "no more than reserved");
        assert_eq!(ballast.grow(4096).unwrap(), 0);
        ballast.shrink(1).unwrap();
        assert_eq!(ballast.held(), (1 << 20) - 4096);
        ballast.shrink(usize::MAX / 2).unwrap();
        assert_eq!(ballast.held(), 0);
        ballast.populates = false;
        assert_eq!(ballast.grow(4096).unwrap(), 4096, "by touching");
    }

    #[test]
    fn the_machine_has_memory() {
        let memory = MachineMemory::now().unwrap();
        assert!(memory.available > 0 && memory.available <= memory.total);
    }
}
