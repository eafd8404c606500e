//! Numbers with a fraction, as `INCRBYFLOAT` reads, adds and writes them: the one formatter for them.
//!
//! Redis computes with the `long double` of its C compiler, on most machines 64 bits of mantissa and 15 of
//! exponent, and writes 17 digits behind the point without the zeros at their end. Replicas must agree to
//! the last digit whatever they run on, so that arithmetic is done here in whole numbers: each result is
//! the exact one rounded once, half to even (IEEE 754).

use crate::decimal::Natural;

/// The longest text that is read as a number, as in Redis.
const TEXT_LEN_MAX: usize = 5 * 1024 - 1;
/// How many bits a mantissa has.
const MANTISSA_BITS: u32 = 64;
/// The exponents of the last bit of a mantissa.
const EXPONENT_MIN: i32 = -16_445;
const EXPONENT_MAX: i32 = 16_320;
/// Decimal exponents beyond which every number is too large or too small, however it goes on.
const DECIMAL_MAX: i64 = 4_940;
const DECIMAL_MIN: i64 = -4_960;
/// How many digits are written behind the point.
const FRACTION_LEN: usize = 17;
const FRACTION: u128 = 10u128.pow(FRACTION_LEN as u32);

/// A number; not one that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Float {
    /// `mantissa` times two to the power of `exponent`. Invariants: the exponent is within its bounds; it
    /// is the lowest, or the mantissa has its highest bit or is 0.
    Finite { negative: bool, mantissa: u64, exponent: i32 },
    /// Beyond all of those.
    Infinite { negative: bool },
}

impl Float {
    pub(crate) const ZERO: Self = Self::zero(false);

    const fn zero(negative: bool) -> Self {
        Self::Finite { negative, mantissa: 0, exponent: EXPONENT_MIN }
    }

    /// Reads what `strtold` reads to the end: decimal and hexadecimal forms, infinity; not a blank in
    /// front, not what is no number, and not what is too large or too small to be told from infinity or 0.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > TEXT_LEN_MAX {
            return None;
        }
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] | rest => (false, rest),
        };
        if digits.eq_ignore_ascii_case(b"inf") || digits.eq_ignore_ascii_case(b"infinity") {
            return Some(Self::Infinite { negative });
        }
        match digits {
            [b'0', b'x' | b'X', rest @ ..] => Self::parse_hexadecimal(negative, rest),
            _ => Self::parse_decimal(negative, digits),
        }
    }

    fn parse_decimal(negative: bool, text: &[u8]) -> Option<Self> {
        let Parts { digits, behind_point, exponent } = Parts::read(text, 10, b'e')?;
        if digits.is_empty() {
            return Some(Self::zero(negative));
        }
        let exponent = exponent.saturating_sub(behind_point);
        let order = exponent.saturating_add(digits.len() as i64);
        if !(DECIMAL_MIN..=DECIMAL_MAX).contains(&order) {
            return None;
        }
        let number = Natural::from_digits(&digits, 10);
        let found = match u32::try_from(exponent) {
            Ok(exponent) => {
                Self::rounded(negative, &number.times(&Natural::power_of_ten(exponent)), 0, false)
            }
            Err(_) => {
                let divisor = Natural::power_of_ten(exponent.unsigned_abs() as u32);
                // So many bits that the quotient has two more than a mantissa, at least.
                let shift = number.bits() as i32 - divisor.bits() as i32 - MANTISSA_BITS as i32 - 2;
                let (number, cut) = number.shifted(-shift);
                let (quotient, rest) = number.divided_by(&divisor);
                Self::rounded(negative, &quotient, shift, cut || rest)
            }
        };
        found.in_range()
    }

    fn parse_hexadecimal(negative: bool, text: &[u8]) -> Option<Self> {
        let Parts { digits, behind_point, exponent } = Parts::read(text, 16, b'p')?;
        if digits.is_empty() {
            return Some(Self::zero(negative));
        }
        let exponent = exponent.saturating_sub(4 * behind_point);
        let order = exponent.saturating_add(4 * digits.len() as i64);
        if !(-17_000..=17_000).contains(&order) {
            return None;
        }
        let number = Natural::from_digits(&digits, 16);
        Self::rounded(negative, &number, exponent as i32, false).in_range()
    }

    /// `None` where C would set an error: infinity, or 0 of what is not 0.
    fn in_range(self) -> Option<Self> {
        match self {
            Self::Finite { mantissa: 0, .. } | Self::Infinite { .. } => None,
            found => Some(found),
        }
    }

    /// The nearest to `number` times two to the power of `exponent`, and a little more if `more`.
    fn rounded(negative: bool, number: &Natural, exponent: i32, more: bool) -> Self {
        let bits = number.bits() as i32;
        let wanted = (exponent + bits - MANTISSA_BITS as i32).max(EXPONENT_MIN);
        let shift = wanted - exponent;
        let (kept, half, rest) = number.split_at_bit(shift);
        let up = half && (rest || more || kept & 1 == 1);
        let (mantissa, exponent) = match kept.checked_add(u64::from(up)) {
            Some(mantissa) => (mantissa, wanted),
            None => (1 << (MANTISSA_BITS - 1), wanted + 1),
        };
        match exponent > EXPONENT_MAX {
            true => Self::Infinite { negative },
            false => Self::Finite { negative, mantissa, exponent },
        }
    }

    /// The sum; `None` where it is infinite or none at all.
    pub(crate) fn plus(self, other: Self) -> Option<Self> {
        let (
            Self::Finite { negative, mantissa, exponent },
            Self::Finite { negative: other_negative, mantissa: other, exponent: other_exponent },
        ) = (self, other)
        else {
            return None;
        };
        let lowest = exponent.min(other_exponent);
        let [one, other] = [(mantissa, exponent), (other, other_exponent)]
            .map(|(mantissa, exponent)| Natural::from(mantissa).shifted(exponent - lowest).0);
        let sum = if negative == other_negative {
            Self::rounded(negative, &one.plus(&other), lowest, false)
        } else if one == other {
            Self::zero(false)
        } else if one > other {
            Self::rounded(negative, &one.minus(&other), lowest, false)
        } else {
            Self::rounded(other_negative, &other.minus(&one), lowest, false)
        };
        matches!(sum, Self::Finite { .. }).then_some(sum)
    }

    /// As many digits as there are in front of the point, and up to 17 behind it.
    pub(crate) fn text(self) -> String {
        let Self::Finite { negative, mantissa, exponent } = self else {
            return "inf".to_owned();
        };
        let (whole, fraction) = match u32::try_from(exponent) {
            Ok(_) => (Natural::from(mantissa).shifted(exponent).0.decimal(), 0),
            Err(_) => {
                let scaled = half_to_even(u128::from(mantissa) * FRACTION, exponent.unsigned_abs());
                ((scaled / FRACTION).to_string(), scaled % FRACTION)
            }
        };
        let fraction = format!("{fraction:0FRACTION_LEN$}");
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        let sign = if negative && (whole != "0" || !fraction.is_empty()) { "-" } else { "" };
        format!("{sign}{whole}{point}{fraction}")
    }
}

/// `number` divided by two to the power of `shift`, which is at least 1.
const fn half_to_even(number: u128, shift: u32) -> u128 {
    if shift >= u128::BITS {
        // Less than a half: a mantissa times the fraction has no more than 121 bits.
        return 0;
    }
    let (kept, rest) = (number >> shift, number & ((1 << shift) - 1));
    let half = 1 << (shift - 1);
    if rest > half || (rest == half && kept & 1 == 1) { kept + 1 } else { kept }
}

/// What a number is written of.
struct Parts {
    /// Values of the digits without zeros in front, those behind the point included.
    digits: Vec<u8>,
    behind_point: i64,
    exponent: i64,
}

impl Parts {
    /// Reads digits of `base` with a point among them or not, and `mark` with an exponent or not;
    /// nothing else may follow.
    fn read(text: &[u8], base: u32, mark: u8) -> Option<Self> {
        let (mut digits, mut behind_point, mut point) = (Vec::new(), 0, false);
        let mut rest = text;
        while let [byte, behind @ ..] = rest {
            match (char::from(*byte).to_digit(base), byte) {
                (Some(digit), _) => {
                    digits.push(digit as u8);
                    behind_point += i64::from(point);
                }
                (None, b'.') if !point => point = true,
                _ => break,
            }
            rest = behind;
        }
        if digits.is_empty() {
            return None;
        }
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        digits.drain(..zeros);
        let exponent = match rest {
            [] => 0,
            [byte, behind @ ..] if byte.eq_ignore_ascii_case(&mark) => exponent(behind)?,
            _ => return None,
        };
        Some(Self { digits, behind_point, exponent })
    }
}

/// Saturates: whatever is as large is out of range.
fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] | rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0i64, |number, digit| {
        number.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(one: &str, other: &str) -> String {
        let parse = |text: &str| Float::parse(text.as_bytes()).expect("is a number");
        parse(one).plus(parse(other)).map_or_else(|| "none".to_owned(), Float::text)
    }

    /// As Redis 7.0.15 on x86-64 answers.
    #[test]
    fn sums_are_those_of_redis() {
        for (one, other, wanted) in [
            ("0.1", "0.2", "0.3"),
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3.0", "1.1", "4.1"),
            ("0", "-0", "0"),
            ("-1", "1", "0"),
            ("-1e-30", "0", "0"),
            ("1e-17", "0", "0.00000000000000001"),
            ("3000.1", "0", "3000.10000000000000009"),
            ("5e-4951", "0", "0"),
            ("0x1p3", "0X.8", "8.5"),
            ("+.5", "1.", "1.5"),
            ("1e20", "1", "100000000000000000000"),
            ("9223372036854775807", "1", "9223372036854775808"),
            ("inf", "1", "none"),
            ("-infinity", "inf", "none"),
            ("1e4932", "1e4932", "none"),
        ] {
            assert_eq!(sum(one, other), wanted, "{one} + {other}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            "-",
            "+",
            ".",
            "e5",
            "1e",
            "1e+",
            "0x",
            "0x.",
            "0xg",
            "1 ",
            " 1",
            "1a",
            "nan",
            "1..2",
            "--1",
            "1e5.5",
            "infin",
            "1e4933",
            "1e99999999999999999999",
            "1e-5000",
            "0x1p16384",
        ] {
            assert_eq!(Float::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Float::parse(&b"1".repeat(TEXT_LEN_MAX + 1)), None);
        assert!(Float::parse(&[&b"0."[..], &b"0".repeat(4_900), b"1"].concat()).is_some());
        assert_eq!(Float::parse(b"0e99999999999999999999"), Some(Float::zero(false)));
    }

    #[test]
    fn the_largest_and_the_smallest_come_through() {
        let largest = Float::parse(b"1.18973149535723176502e+4932").expect("is a number");
        assert_eq!(largest.text().len(), 4_933);
        assert_eq!(Float::parse(largest.text().as_bytes()), Some(largest));
        let smallest = Float::parse(b"3.6451995318824746025e-4951").expect("is a number");
        let mantissa = 1;
        assert_eq!(smallest, Float::Finite { negative: false, mantissa, exponent: EXPONENT_MIN });
    }

    proptest! {
        /// Numbers of 64 bits are exact, and so are their sums within as many.
        #[test]
        fn whole_numbers_are_exact(one in any::<i32>(), other in any::<i32>()) {
            let exact = i64::from(one) + i64::from(other);
            prop_assert_eq!(sum(&one.to_string(), &other.to_string()), exact.to_string());
        }

        /// What the processor reads in fewer bits is what comes of rounding once more.
        #[test]
        fn what_is_read_is_near_to_what_the_processor_reads(text in "[0-9]{1,20}(\\.[0-9]{0,20})?(e-?[0-9]{1,2})?") {
            let ours: f64 = match Float::parse(text.as_bytes()) {
                Some(Float::Finite { mantissa, exponent, .. }) => {
                    mantissa as f64 * 2f64.powi(exponent.max(-1_000))
                }
                _ => f64::NAN,
            };
            let theirs: f64 = text.parse().expect("is a number");
            prop_assert!((ours - theirs).abs() <= theirs * f64::EPSILON, "{} {}", ours, theirs);
        }

        #[test]
        fn garbage_never_panics(text in "[-+0-9.exp]{0,40}") {
            if let Some(number) = Float::parse(text.as_bytes()) {
                let again = number.plus(number).map(Float::text);
                prop_assert!(again.is_none_or(|text| Float::parse(text.as_bytes()).is_some()));
            }
        }
    }
}
