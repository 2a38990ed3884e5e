//! Values of device attributes, from the text that management has: the same for all device handlers. None: not a valid
//! value. Called by the control plane only.

use scst_scsi::designator::Naa;

/// A decimal number, or a hexadecimal one after 0x.
pub fn number(value: &str) -> Option<u64> {
    match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    }
}

/// 0 or 1.
pub fn switch(value: &str, field: &mut bool) -> Option<()> {
    *field = match value {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    Some(())
}

/// From 1 to `max` printable ASCII characters.
pub fn text(value: &str, max: usize, field: &mut Option<String>) -> Option<()> {
    let fits = (1..=max).contains(&value.len()) && value.bytes().all(|b| (0x20..=0x7e).contains(&b));
    fits.then(|| *field = Some(value.to_owned()))
}

/// So many hexadecimal digits, with or without 0x.
pub fn hex(value: &str, count: usize) -> Option<u128> {
    let digits = value.strip_prefix("0x").unwrap_or(value);
    let valid = digits.len() == count && digits.bytes().all(|b| b.is_ascii_hexdigit());
    u128::from_str_radix(digits, 16).ok().filter(|_| valid)
}

/// An NAA of eight bytes, or of sixteen if it begins with the digit 6.
pub fn naa(value: &str) -> Option<Naa> {
    let short = hex(value, 16).map(|id| (id as u64).to_be_bytes());
    let long = hex(value, 32).map(u128::to_be_bytes);
    short.and_then(|id| Naa::from_bytes(&id)).or_else(|| Naa::from_bytes(&long?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_exact() {
        assert_eq!(
            (number("0x1f"), number("31"), number("1f"), number("-1"), number("")),
            (Some(31), Some(31), None, None, None)
        );
        let mut flag = false;
        assert_eq!((switch("1", &mut flag), flag, switch("yes", &mut flag), flag), (Some(()), true, None, true));
        let mut value = None;
        assert_eq!(text("12345678", 8, &mut value), Some(()));
        assert_eq!(value.as_deref(), Some("12345678"));
        for wrong in ["", "123456789", "tab\t"] {
            assert_eq!(text(wrong, 8, &mut value), None, "{wrong:?}");
        }
        assert_eq!(
            (hex("0x00ff", 4), hex("00ff", 4), hex("ff", 4), hex("+0ff", 4)),
            (Some(255), Some(255), None, None)
        );
        assert!(naa("0x3000000000000001").is_some() && naa("3").is_none());
        assert!(naa("6000000000000000000000000000000a").is_some() && naa("0x9000000000000001").is_none());
    }
}
