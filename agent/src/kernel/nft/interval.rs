//! Ranges of addresses or ports, and the elements they become in an interval set. Pure.
//!
//! The kernel's tree of intervals takes boundaries, not ranges: a start, and an end that is the first
//! key behind the range and carries a flag (`net/netfilter/nft_set_rbtree.c`). It refuses ranges that
//! overlap, and of two that touch one boundary would be start and end at once: they are merged. A
//! range that reaches the last key there is has no end.

use super::set::Element;

/// A range of keys of one width, both ends included. Keys are compared as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The first key.
    pub first: u128,
    /// The last key, not below the first.
    pub last: u128,
}

/// The largest key of so many bytes (at most 16).
fn largest(key_len: usize) -> u128 {
    let unused = 128_u32.saturating_sub(u32::try_from(key_len * 8).unwrap_or(128));
    u128::MAX.checked_shr(unused).unwrap_or(0)
}

/// The same keys, sorted, with ranges that overlap or touch made one.
pub fn merge(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// The elements of an interval set that holds these ranges, for keys of `key_len` bytes.
pub fn elements(ranges: Vec<Range>, key_len: usize) -> Vec<Element> {
    let key = |number: u128| number.to_be_bytes()[16 - key_len..].to_vec();
    let mut elements = Vec::with_capacity(2 * ranges.len());
    for range in merge(ranges) {
        elements.push(Element::key(&key(range.first)));
        if range.last < largest(key_len) {
            elements.push(Element::interval_end(&key(range.last + 1)));
        }
    }
    elements
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(first: u128, last: u128) -> Range {
        Range { first, last }
    }

    #[test]
    fn ranges_that_overlap_or_touch_become_one() {
        let merged = merge(vec![range(20, 30), range(0, 9), range(10, 12), range(25, 40)]);
        assert_eq!(merged, [range(0, 12), range(20, 40)]);
    }

    #[test]
    fn a_range_up_to_the_last_key_has_no_end() {
        for key_len in [2, 4, 16] {
            let last = largest(key_len);
            let all = elements(vec![range(0, last)], key_len);
            assert_eq!(all, [Element::key(&vec![0; key_len])], "{key_len}");
            let most = elements(vec![range(0, last - 1)], key_len);
            let end = Element::interval_end(&vec![0xff; key_len]);
            assert_eq!(most, [Element::key(&vec![0; key_len]), end], "{key_len}");
        }
    }

    proptest! {
        #[test]
        fn merging_keeps_every_key_and_adds_none(
            pairs in prop::collection::vec((0_u8.., 0_u8..), 0..40)
        ) {
            let ranges: Vec<Range> = pairs
                .iter()
                .map(|(a, b)| range(u128::from(*a.min(b)), u128::from(*a.max(b))))
                .collect();
            let merged = merge(ranges.clone());
            let has = |ranges: &[Range], key| ranges.iter().any(|r| r.first <= key && key <= r.last);
            for key in 0..=256 {
                prop_assert_eq!(has(&ranges, key), has(&merged, key));
            }
            prop_assert!(merged.windows(2).all(|pair| pair[0].last + 1 < pair[1].first));
        }
    }
}
