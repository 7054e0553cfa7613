//! Memory of this process that is there for its weight, and how much the machine has to give.
//!
//! It is charged to the memory control group that this process is in when it is taken.

use std::{fs, num::NonZeroUsize, ptr::NonNull};

use nix::{
    errno::Errno,
    sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap},
};

use super::KernelError;

/// The size of a page, in bytes.
pub const PAGE_BYTES: usize = 4096;
/// The size of a huge page, in bytes. Taking memory in these is several times as fast.
const HUGE_BYTES: usize = 2 << 20;

/// Private anonymous memory of which a part is really there: as much as was asked for, to the page.
#[derive(Debug)]
pub struct Ballast {
    /// Most of it, in huge pages where the kernel has some.
    bulk: Region,
    /// The rest, in pages.
    fine: Region,
}

impl Ballast {
    /// Reserves addresses for `bytes`; takes no memory yet.
    ///
    /// # Errors
    /// When there are no such addresses, or the machine allows no overcommitment.
    pub fn reserve(bytes: usize) -> Result<Self, KernelError> {
        Ok(Self {
            bulk: Region::reserve(bytes, HUGE_BYTES, MmapAdvise::MADV_HUGEPAGE)?,
            // Without the advice the kernel might make huge ones of these pages.
            fine: Region::reserve(bytes, PAGE_BYTES, MmapAdvise::MADV_NOHUGEPAGE)?,
        })
    }

    /// How many bytes are there.
    pub fn held(&self) -> usize {
        self.bulk.held + self.fine.held
    }

    /// Takes `bytes` more: rounded down to pages, and at most what is reserved in all. What is more
    /// than a huge page is rounded down to those: call again for the rest. Returns how many it took.
    ///
    /// # Errors
    /// When the kernel has no more and kills nobody for it (`ENOMEM`); what is held stays as it was.
    pub fn grow(&mut self, bytes: usize) -> Result<usize, KernelError> {
        let bytes = bytes.min(self.fine.reserved.saturating_sub(self.held()));
        let region = if bytes >= HUGE_BYTES { &mut self.bulk } else { &mut self.fine };
        region.grow(bytes)
    }

    /// Gives `bytes` back, rounded up to pages; at most what is held.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn shrink(&mut self, bytes: usize) -> Result<(), KernelError> {
        let bytes = bytes.next_multiple_of(PAGE_BYTES).min(self.held());
        let fine = bytes.min(self.fine.held);
        self.fine.shrink(fine)?;
        let bulk = (bytes - fine).next_multiple_of(HUGE_BYTES).min(self.bulk.held);
        self.bulk.shrink(bulk)?;
        // Of the last huge page only a part was to be given back.
        self.fine.grow((bulk + fine).saturating_sub(bytes))?;
        Ok(())
    }
}

/// A range of addresses of which a part, from its beginning on, has memory.
#[derive(Debug)]
struct Region {
    start: NonNull<libc::c_void>,
    reserved: usize,
    held: usize,
    /// What it grows and shrinks in, in bytes: a power of two, and `start` a multiple of it.
    unit: usize,
    /// Whether the kernel populates (since Linux 5.14); otherwise pages are touched one by one.
    populates: bool,
}

impl Region {
    #[allow(unsafe_code, reason = "mmap(2), munmap(2) and madvise(2) are unsafe in nix")]
    fn reserve(bytes: usize, unit: usize, advice: MmapAdvise) -> Result<Self, KernelError> {
        let failed = |e: Errno| KernelError::io("reserve", &format!("{bytes} bytes of memory"), e);
        let reserved = bytes
            .checked_next_multiple_of(unit)
            .filter(|reserved| reserved.checked_add(unit).is_some())
            .ok_or_else(|| failed(Errno::ENOMEM))?
            .max(unit);
        // One unit more, so that there is a multiple of it to start at.
        let length = NonZeroUsize::new(reserved + unit).expect("two units at least");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: no address is asked for, so that the mapping replaces none.
        let mapped = unsafe { mmap_anonymous(None, length, protection, flags) }.map_err(failed)?;
        let head = mapped.as_ptr().addr().next_multiple_of(unit) - mapped.as_ptr().addr();
        // SAFETY: `head` is less than `unit`, so that this lies inside of the mapping just made.
        let start = unsafe { mapped.byte_add(head) };
        // What stands over at both ends is given back, so that drop has one range to think of.
        // SAFETY: both ranges are parts of the mapping just made (page multiples, as `unit` is one),
        // outside of the range that is kept, and nothing refers to them. An empty range is refused
        // with EINVAL and no harm.
        let over = unsafe { [munmap(mapped, head), munmap(start.byte_add(reserved), unit - head)] };
        // SAFETY: the range is what is left of the mapping; the advice changes no contents.
        let advised = unsafe { madvise(start, reserved, advice) };
        // Addresses that stay reserved cost nothing; a kernel without huge pages refuses the advice.
        tracing::debug!(?over, ?advised, reserved, "memory reserved");
        Ok(Self { start, reserved, held: 0, unit, populates: true })
    }

    /// Takes `bytes` more, rounded down to units and to what is reserved. Returns how many.
    fn grow(&mut self, bytes: usize) -> Result<usize, KernelError> {
        let bytes = bytes.min(self.reserved - self.held) / self.unit * self.unit;
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

    /// Gives `bytes` back, which are units and at most what is held.
    fn shrink(&mut self, bytes: usize) -> Result<(), KernelError> {
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

impl Drop for Region {
    #[allow(unsafe_code, reason = "munmap(2) is unsafe in nix")]
    fn drop(&mut self) {
        // SAFETY: the range is what `reserve` kept, unmapped once, and nothing refers to it.
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
        let total = 5 * HUGE_BYTES;
        let mut ballast = Ballast::reserve(total).unwrap();
        assert_eq!(ballast.grow(10_000).unwrap(), 8192, "whole pages");
        assert_eq!(ballast.grow(usize::MAX).unwrap(), 4 * HUGE_BYTES, "whole huge pages");
        assert_eq!(ballast.grow(usize::MAX).unwrap(), HUGE_BYTES - 8192, "no more than reserved");
        assert_eq!(ballast.grow(4096).unwrap(), 0);
        ballast.shrink(HUGE_BYTES + 1).unwrap();
        assert_eq!(ballast.held(), total - HUGE_BYTES - 4096, "of a huge page only a part");
        ballast.shrink(usize::MAX / 2).unwrap();
        assert_eq!(ballast.held(), 0);
        ballast.fine.populates = false;
        assert_eq!(ballast.grow(4096).unwrap(), 4096, "by touching");
        assert!(Ballast::reserve(usize::MAX).is_err());
    }

    #[test]
    fn the_machine_has_memory() {
        let memory = MachineMemory::now().unwrap();
        assert!(memory.available > 0 && memory.available <= memory.total);
    }
}
