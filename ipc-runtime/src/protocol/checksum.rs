//! Checksums of frames whose parts are known at different times.
//!
//! The checksum of a large message is computed before its call has an id, so before the envelope around it is known. The
//! checksum of the frame is then combined from those of both parts (zlib's `crc32_combine`).

use crate::config::Crc32Variant;

/// The checksum of `first` followed by bytes whose checksum is already known.
pub(crate) fn with_rest(variant: Crc32Variant, first: &[u8], rest: u32, rest_len: usize) -> u32 {
    match variant {
        Crc32Variant::Ieee => {
            let mut sum = crc32fast::Hasher::new();
            sum.update(first);
            sum.combine(&crc32fast::Hasher::new_with_initial_len(rest, rest_len as u64));
            sum.finalize()
        }
        Crc32Variant::Castagnoli => crc32c::crc32c_combine(crc32c::crc32c(first), rest, rest_len),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_parts_give_the_sum_of_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0_usize..300) {
            let (first, rest) = bytes.split_at(at.min(bytes.len()));
            for variant in [Crc32Variant::Ieee, Crc32Variant::Castagnoli] {
                let combined = with_rest(variant, first, variant.checksum(rest), rest.len());
                prop_assert_eq!(combined, variant.checksum(&bytes));
            }
        }
    }
}
