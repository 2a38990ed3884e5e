//! Text segments: `key=value` pairs, each ended by a zero byte (RFC 7143 6.1).

/// Pairs in the order of the wire.
pub type Keys = Vec<(String, String)>;

/// The wire form.
pub fn encode(keys: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in keys {
        out.extend_from_slice(key.as_bytes());
        out.push(b'=');
        out.extend_from_slice(value.as_bytes());
        out.push(0);
    }
    out
}

/// Cuts a text segment; `Err` names the piece that is no pair.
///
/// # Errors
/// A piece without `=`, or bytes that are not UTF-8.
pub fn decode(bytes: &[u8]) -> Result<Keys, String> {
    let mut keys = Vec::new();
    for piece in bytes.split(|&byte| byte == 0).filter(|piece| !piece.is_empty()) {
        let text = std::str::from_utf8(piece).map_err(|_| format!("not UTF-8: {piece:?}"))?;
        let (key, value) = text.split_once('=').ok_or_else(|| format!("no '=' in {text:?}"))?;
        keys.push((key.to_owned(), value.to_owned()));
    }
    Ok(keys)
}

/// The first value of a key.
pub fn get<'a>(keys: &'a [(String, String)], key: &str) -> Option<&'a str> {
    keys.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// Makes owned pairs.
pub fn keys(pairs: &[(&str, &str)]) -> Keys {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_piece_without_equals_is_an_error() {
        assert_eq!(decode(b"A=1\0B\0"), Err("no '=' in \"B\"".to_owned()));
        assert_eq!(decode(b"A=1\0B=x=y\0").unwrap(), keys(&[("A", "1"), ("B", "x=y")]));
    }

    proptest! {
        #[test]
        fn encode_and_decode_are_inverse(
            pairs in prop::collection::vec(("[A-Z][A-Za-z0-9.]{0,20}", "[ -~]{0,50}"), 0..8),
        ) {
            prop_assert_eq!(decode(&encode(&pairs)).unwrap(), pairs);
        }
    }
}
