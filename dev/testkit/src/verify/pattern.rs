//! Contents of a block: address, generation and a pattern in every word.

use crate::rng::mix;

/// Makes and recognises blocks of one workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pattern {
    seed: u64,
}

/// What a block holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// Zeros: never written, or unmapped.
    Zeros,
    /// A whole block of a write.
    Written {
        /// Its address.
        lba: u64,
        /// Its generation.
        generation: u64,
    },
    /// Neither.
    Foreign(String),
}

impl Pattern {
    /// Patterns of different seeds do not mistake each other's blocks for their own.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    fn word(self, lba: u64, generation: u64, index: u64) -> u64 {
        mix(self.seed ^ mix(lba ^ generation.rotate_left(32)).wrapping_add(index))
    }

    /// Writes the block; its length is a multiple of eight and at least 32.
    pub fn fill(self, lba: u64, generation: u64, block: &mut [u8]) {
        for (index, word) in block.chunks_exact_mut(8).enumerate() {
            let value = match index {
                0 => lba,
                1 => generation,
                _ => self.word(lba, generation, index as u64),
            };
            word.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// Recognises a block.
    pub fn read(self, block: &[u8]) -> Content {
        if block.iter().all(|&byte| byte == 0) {
            return Content::Zeros;
        }
        let words: Vec<u64> = block
            .chunks_exact(8)
            .map(|word| word.iter().rev().fold(0, |value, &b| (value << 8) | u64::from(b)))
            .collect();
        let (lba, generation) = (words[0], words[1]);
        let differs = (2..words.len()).find(|&index| words[index] != self.word(lba, generation, index as u64));
        match differs {
            None => Content::Written { lba, generation },
            Some(index) => Content::Foreign(format!(
                "says block {lba} generation {generation}, byte {} is not of that pattern",
                index * 8
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_recognised_and_a_torn_one_is_not() {
        let pattern = Pattern::new(5);
        let mut block = vec![0; 512];
        assert_eq!(pattern.read(&block), Content::Zeros);
        pattern.fill(17, 3, &mut block);
        assert_eq!(pattern.read(&block), Content::Written { lba: 17, generation: 3 });
        let mut newer = vec![0; 512];
        pattern.fill(17, 4, &mut newer);
        block[256..].copy_from_slice(&newer[256..]);
        let expected = "says block 17 generation 3, byte 256 is not of that pattern";
        assert_eq!(pattern.read(&block), Content::Foreign(expected.to_owned()));
        assert!(matches!(Pattern::new(6).read(&newer), Content::Foreign(_)));
    }
}
