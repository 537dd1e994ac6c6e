//! The table of the `io_uring` sensor: plain per-CPU banks that user space maps and reads.

/// Opcodes of requests that are told apart; the last stands for all beyond it. Twice as many as there are yet.
pub const OPCODES: usize = 127;

/// All counters of one slot on one CPU. Only the programs on that CPU write to it, each to fields of its own.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct RequestBank {
    /// Requests by opcode.
    pub submitted: [u64; OPCODES],
    /// Rings that were made.
    pub rings: u64,
}

const _: () = assert!(size_of::<RequestBank>() == 1024);

/// A mask that leaves every index of [`RequestBank::submitted`] as it is and keeps any other within the bank.
pub const OPCODE_MASK: u32 = 127;

/// The cell index of an opcode.
#[inline(always)]
pub fn opcode_index(opcode: u8) -> usize {
    (opcode as usize).min(OPCODES - 1)
}

/// What `io_uring_submit_sqe` passes, until it became `io_uring_submit_req` (in 6.5).
pub mod submit_passes {
    /// The request comes first, with its type (since 6.0).
    pub const REQUEST: u64 = 0;
    /// It comes second, without its type (since 5.14).
    pub const UNTYPED_REQUEST: u64 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opcodes_beyond_the_table_share_its_last_cell() {
        assert_eq!(opcode_index(0), 0);
        assert_eq!(opcode_index(125), 125);
        for opcode in [126, 127, 200, 255] {
            assert_eq!(opcode_index(opcode), 126);
        }
        for opcode in 0..=255 {
            let index = opcode_index(opcode);
            assert_eq!(index & OPCODE_MASK as usize, index);
        }
    }
}
