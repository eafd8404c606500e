//! Whole numbers of any length, as far as reading and writing decimal fractions needs them.

use std::cmp::Ordering;

const LIMB_BITS: u32 = 32;
/// The largest power of ten in a limb, and its exponent.
const CHUNK: u32 = 1_000_000_000;
const CHUNK_LEN: usize = 9;

/// Invariant: the last limb is not 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Natural {
    /// The lowest first.
    limbs: Vec<u32>,
}

impl From<u64> for Natural {
    fn from(number: u64) -> Self {
        Self { limbs: vec![number as u32, (number >> LIMB_BITS) as u32] }.trimmed()
    }
}

impl Natural {
    fn trimmed(mut self) -> Self {
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
        self
    }

    /// The number whose digits to `base` are these, the highest first.
    pub(crate) fn from_digits(digits: &[u8], base: u32) -> Self {
        let mut number = Self::default();
        // As many digits at once as a limb surely takes, for both bases.
        for chunk in digits.chunks(7) {
            let value = chunk.iter().fold(0, |value, digit| value * base + u32::from(*digit));
            number.multiply_and_add(base.pow(chunk.len() as u32), value);
        }
        number
    }

    pub(crate) fn power_of_ten(exponent: u32) -> Self {
        let mut number = Self::from(1);
        for _ in 0..exponent as usize / CHUNK_LEN {
            number.multiply_and_add(CHUNK, 0);
        }
        number.multiply_and_add(10u32.pow(exponent % CHUNK_LEN as u32), 0);
        number
    }

    fn multiply_and_add(&mut self, factor: u32, summand: u32) {
        let mut carry = u64::from(summand);
        for limb in &mut self.limbs {
            carry += u64::from(*limb) * u64::from(factor);
            *limb = carry as u32;
            carry >>= LIMB_BITS;
        }
        if carry > 0 {
            self.limbs.push(carry as u32);
        }
    }

    pub(crate) fn times(&self, other: &Self) -> Self {
        let mut limbs = vec![0; self.limbs.len() + other.limbs.len()];
        for (at, one) in self.limbs.iter().enumerate() {
            let mut carry = 0;
            for (limb, other) in limbs[at..].iter_mut().zip(other.limbs.iter().chain([&0])) {
                carry += u64::from(*limb) + u64::from(*one) * u64::from(*other);
                *limb = carry as u32;
                carry >>= LIMB_BITS;
            }
        }
        Self { limbs }.trimmed()
    }

    pub(crate) fn plus(&self, other: &Self) -> Self {
        let len = self.limbs.len().max(other.limbs.len()) + 1;
        let mut carry = 0;
        let limbs = (0..len).map(|at| {
            carry += u64::from(self.limb(at)) + u64::from(other.limb(at));
            let limb = carry as u32;
            carry >>= LIMB_BITS;
            limb
        });
        Self { limbs: limbs.collect() }.trimmed()
    }

    /// Less `other`, which is not above it.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        let mut borrow = false;
        let limbs = (0..self.limbs.len()).map(|at| {
            let (limb, first) = self.limb(at).overflowing_sub(other.limb(at));
            let (limb, second) = limb.overflowing_sub(u32::from(borrow));
            borrow = first || second;
            limb
        });
        let difference = Self { limbs: limbs.collect() }.trimmed();
        assert!(!borrow, "a greater number was taken away");
        difference
    }

    fn limb(&self, at: usize) -> u32 {
        self.limbs.get(at).copied().unwrap_or(0)
    }

    /// How many bits it has.
    pub(crate) fn bits(&self) -> u32 {
        let last = self.limbs.last().map_or(0, |last| LIMB_BITS - last.leading_zeros());
        (self.limbs.len().saturating_sub(1)) as u32 * LIMB_BITS + last
    }

    fn bit(&self, at: u32) -> bool {
        self.limb((at / LIMB_BITS) as usize) >> (at % LIMB_BITS) & 1 == 1
    }

    /// Whether a bit below `end` is set.
    fn any_below(&self, end: u32) -> bool {
        (0..end.min(self.bits())).any(|at| self.bit(at))
    }

    /// Times two to the power of `by`, without what that leaves of a fraction, and whether there was any.
    pub(crate) fn shifted(&self, by: i32) -> (Self, bool) {
        let (limbs, bits) = (by.unsigned_abs() / LIMB_BITS, by.unsigned_abs() % LIMB_BITS);
        let len = self.limbs.len();
        let pair = |low: u32, high: u32, bits: u32| {
            ((u64::from(high) << LIMB_BITS | u64::from(low)) >> bits) as u32
        };
        if by >= 0 {
            let zeros = std::iter::repeat_n(0, limbs as usize);
            let moved = (0..=len).map(|at| {
                let low = at.checked_sub(1).map_or(0, |at| self.limb(at));
                if bits == 0 { self.limb(at) } else { pair(low, self.limb(at), LIMB_BITS - bits) }
            });
            return (Self { limbs: zeros.chain(moved).collect() }.trimmed(), false);
        }
        let moved = (limbs as usize..len).map(|at| pair(self.limb(at), self.limb(at + 1), bits));
        (Self { limbs: moved.collect() }.trimmed(), self.any_below(by.unsigned_abs()))
    }

    /// The bits from `at` on, of which there are 64 at most; the one below; whether there are any below
    /// that. A place below 0 stands for zeros behind the number.
    pub(crate) fn split_at_bit(&self, at: i32) -> (u64, bool, bool) {
        let kept = self.shifted(-at).0;
        let kept = u64::from(kept.limb(1)) << LIMB_BITS | u64::from(kept.limb(0));
        match u32::try_from(at) {
            Ok(at @ 1..) => (kept, self.bit(at - 1), self.any_below(at - 1)),
            _ => (kept, false, false),
        }
    }

    /// The quotient, and whether there is a rest.
    pub(crate) fn divided_by(&self, divisor: &Self) -> (Self, bool) {
        let (bits, below) = (self.bits(), divisor.bits().saturating_sub(1));
        // What cannot hold the divisor yet is taken at once.
        let left = bits.saturating_sub(below);
        let mut rest = self.shifted(-(left as i32)).0;
        let mut quotient = Self { limbs: vec![0; left.div_ceil(LIMB_BITS) as usize] };
        for at in (0..left).rev() {
            rest = rest.shifted(1).0;
            if self.bit(at) {
                rest = rest.plus(&Self::from(1));
            }
            if rest >= *divisor {
                rest = rest.minus(divisor);
                quotient.limbs[(at / LIMB_BITS) as usize] |= 1 << (at % LIMB_BITS);
            }
        }
        (quotient.trimmed(), rest != Self::default())
    }

    pub(crate) fn decimal(&self) -> String {
        let mut left = self.clone();
        let mut chunks = Vec::new();
        while !left.limbs.is_empty() {
            let mut rest = 0;
            for limb in left.limbs.iter_mut().rev() {
                let number = rest << LIMB_BITS | u64::from(*limb);
                *limb = (number / u64::from(CHUNK)) as u32;
                rest = number % u64::from(CHUNK);
            }
            left = left.trimmed();
            chunks.push(rest);
        }
        let first = chunks.pop().unwrap_or(0).to_string();
        chunks.iter().rev().fold(first, |text, chunk| format!("{text}{chunk:0CHUNK_LEN$}"))
    }
}

impl Ord for Natural {
    fn cmp(&self, other: &Self) -> Ordering {
        let highest_first = |number: &Self| number.limbs.clone().into_iter().rev();
        let by_len = self.limbs.len().cmp(&other.limbs.len());
        by_len.then_with(|| highest_first(self).cmp(highest_first(other)))
    }
}

impl PartialOrd for Natural {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn natural(number: u128) -> Natural {
        let [low, high] = [number as u64, (number >> 64) as u64].map(Natural::from);
        high.shifted(64).0.plus(&low)
    }

    proptest! {
        #[test]
        fn computes_as_the_processor_does(
            one in any::<u64>(), other in 1..u64::MAX, shift in 0u32..64, narrow in 0u32..64,
        ) {
            let (one, other) = (u128::from(one >> narrow), u128::from(other));
            let (a, b) = (natural(one), natural(other));
            prop_assert_eq!(a.plus(&b), natural(one + other));
            prop_assert_eq!(a.times(&b), natural(one * other));
            prop_assert_eq!(a.cmp(&b), one.cmp(&other));
            let (low, high) = (one.min(other), one.max(other));
            prop_assert_eq!(natural(high).minus(&natural(low)), natural(high - low));
            let (quotient, rest) = a.times(&b).plus(&a).divided_by(&b);
            prop_assert_eq!(quotient, natural((one * other + one) / other));
            prop_assert_eq!(rest, (one * other + one) % other != 0);
            prop_assert_eq!(a.shifted(shift as i32).0, natural(one << shift));
            let cut = one & ((1 << shift) - 1) != 0;
            prop_assert_eq!(a.shifted(-(shift as i32)), (natural(one >> shift), cut));
            prop_assert_eq!(a.bits(), u128::BITS - one.leading_zeros());
            prop_assert_eq!(a.times(&b).decimal(), (one * other).to_string());
            let digits: Vec<u8> = one.to_string().bytes().map(|digit| digit - b'0').collect();
            prop_assert_eq!(Natural::from_digits(&digits, 10), a);
        }
    }

    #[test]
    fn powers_of_ten_are_a_one_and_zeros() {
        for exponent in [0, 1, 8, 9, 10, 400] {
            let text = format!("1{}", "0".repeat(exponent as usize));
            assert_eq!(Natural::power_of_ten(exponent).decimal(), text);
        }
    }
}
