//! What the system tells of the memory of this process.

use std::fs;

/// In bytes; 0 for what the system does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// What is in memory at present, and what was at most.
    pub(crate) resident: u64,
    pub(crate) peak: u64,
    /// What the machine has.
    pub(crate) system: u64,
}

/// Reads two small files that the kernel makes up: no disk is waited for.
pub(crate) fn memory() -> Memory {
    let kibibytes = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        number.unwrap_or(0) * 1024
    };
    Memory {
        resident: kibibytes("/proc/self/status", "VmRSS:"),
        peak: kibibytes("/proc/self/status", "VmHWM:"),
        system: kibibytes("/proc/meminfo", "MemTotal:"),
    }
}

#[cfg(test)]
mod tests {
    use super::memory;

    #[test]
    fn a_process_takes_some_memory_and_less_than_the_machine_has() {
        let memory = memory();
        assert!(memory.resident > 1 << 20 && memory.resident <= memory.peak, "{memory:?}");
        assert!(memory.peak < memory.system, "{memory:?}");
    }
}
