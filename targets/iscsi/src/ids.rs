//! Names of connections and sessions of one reactor, and how completions carry them.

use scst_reactor::backend::SocketToken;

/// Generations have 24 bits, to fit a socket token beside the operation.
pub(crate) const GENERATION_MASK: u32 = 0x00ff_ffff;

/// A slot and its reuse count.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Slot {
    pub(crate) const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 & GENERATION_MASK }
    }
}

/// Which operation a completion ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Accept,
    Receive,
    Send,
    Close,
    CloseListener,
}

/// The token of an operation on the thing (connection or listener) in a slot.
pub(crate) fn token(operation: Operation, slot: Slot) -> SocketToken {
    SocketToken((operation as u64) << 56 | slot.to_bits())
}

/// Back from [`token`]; None for a token that is not ours.
pub(crate) fn split_token(token: SocketToken) -> Option<(Operation, Slot)> {
    let operation = match token.0 >> 56 {
        0 => Operation::Accept,
        1 => Operation::Receive,
        2 => Operation::Send,
        3 => Operation::Close,
        4 => Operation::CloseListener,
        _ => return None,
    };
    Some((operation, Slot::from_bits(token.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_carries_operation_slot_and_generation() {
        let slot = Slot { index: 0xfedc_ba98, generation: 0x00ab_cdef };
        for operation in
            [Operation::Accept, Operation::Receive, Operation::Send, Operation::Close, Operation::CloseListener]
        {
            assert_eq!(split_token(token(operation, slot)), Some((operation, slot)));
        }
        assert_eq!(split_token(SocketToken(u64::MAX)), None);
        assert_eq!(Slot::from_bits(slot.to_bits()), slot);
    }
}
