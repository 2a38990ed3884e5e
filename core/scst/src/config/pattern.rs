//! Lists of patterns: which initiators belong to a group, on which portals a target is seen.
//!
//! In a pattern `*` is any text, `?` is any character, and the case of ASCII letters does not matter. A pattern that begins
//! with `!` keeps out what the rest of it describes, whatever the other patterns say and wherever it stands in the list.
//! A list of such patterns alone takes everything else.
//!
//! (In the original each pattern counts alone, and a name is in that satisfies one of them. Lists without `!` and single
//! patterns mean the same here and there. With `!` beside others the original takes nearly everything: `10.*` with
//! `!10.1.0.1` takes 10.1.0.1 by the first and all other networks by the second.)

/// Returns the rest of a pattern that begins with `!`.
pub fn negated(pattern: &str) -> Option<&str> {
    pattern.strip_prefix('!')
}

/// Tells whether a list takes something that has these forms (an address with and without its port, say). A list
/// without patterns takes nothing.
pub fn list_takes(patterns: &[String], forms: &[&str]) -> bool {
    let describes = |pattern: &str| forms.iter().any(|form| wildcard_match(pattern, form));
    // As long as there are only patterns that keep out, all others are in.
    let mut taken = !patterns.is_empty() && patterns.iter().all(|pattern| negated(pattern).is_some());
    for pattern in patterns {
        match negated(pattern) {
            Some(rest) if describes(rest) => return false,
            Some(_) => {}
            None => taken = taken || describes(pattern),
        }
    }
    taken
}

/// Matches `*` (any run) and `?` (any one character), ignoring ASCII case. Takes the product of both lengths at most:
/// after a mismatch only the last `*` is tried again.
pub fn wildcard_match(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    let mut star = None;
    loop {
        let mut rest = name.clone();
        let mut after = pattern.clone();
        match (after.next(), rest.next()) {
            (None, None) => return true,
            (Some('*'), _) => star = Some((after.clone(), name.clone())),
            // What is left of the pattern needs at least one character more, and a longer run of `*` leaves less.
            (Some(_), None) => return false,
            (Some(p), Some(n)) if p == '?' || p.eq_ignore_ascii_case(&n) => name = rest,
            (_, Some(_)) => {
                let Some((at, from)) = &mut star else { return false };
                from.next();
                (pattern, name) = (at.clone(), from.clone());
                continue;
            }
        }
        pattern = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("iqn.*:HOST?", "iqn.2024-01.net.example:host1", true),
            ("iqn.*:host?", "iqn.2024-01.net.example:host12", false),
            ("21:*:e0:?b:83:*", "21:00:00:e0:8b:83:11:22", true),
            ("a*b*c", "aXXbYYbZc", true),
            ("a*b*c", "aXXbYYbZ", false),
            ("?", "", false),
            ("**", "x", true),
            ("a*a", "a", false),
            ("*ab", "aab", true),
            // A character is not a byte.
            ("iqn.a:b?r", "iqn.a:b\u{e4}r", true),
            ("iqn.a:b??r", "iqn.a:b\u{e4}r", false),
            ("*\u{1f600}?", "x\u{1f600}\u{e4}", true),
        ] {
            assert_eq!(wildcard_match(pattern, name), expected, "{pattern} against {name}");
        }
    }

    #[test]
    fn patterns_with_and_without_an_exclamation_mark_combine() {
        for (patterns, taken, left_out) in [
            (&["iqn.a*"][..], &["iqn.A1"][..], &["iqn.b"][..]),
            (&["iqn.a*", "iqn.b"], &["iqn.a1", "iqn.b"], &["iqn.c"]),
            (&["!iqn.a*"], &["iqn.b"], &["iqn.A1"]),
            (&["!iqn.a*", "!iqn.b*"], &["iqn.c"], &["iqn.a1", "iqn.b1"]),
            (&["iqn.*", "!iqn.a*"], &["iqn.b"], &["iqn.a1", "eui.1"]),
            (&["!iqn.a*", "iqn.*"], &["iqn.b"], &["iqn.a1", "eui.1"]),
            (&["!iqn.a*", "iqn.a1"], &[], &["iqn.a1", "iqn.b"]),
            (&["10.*", "!10.1.0.1"], &["10.1.0.2"], &["10.1.0.1", "192.0.2.1"]),
            (&[], &[], &["iqn.a", ""]),
        ] {
            let list: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
            for name in taken {
                assert!(list_takes(&list, &[name]), "{patterns:?} take {name}");
            }
            for name in left_out {
                assert!(!list_takes(&list, &[name]), "{patterns:?} do not take {name}");
            }
        }
    }

    #[test]
    fn one_form_that_is_kept_out_is_enough() {
        let list = ["192.0.2.*".to_owned(), "!192.0.2.1:3260".to_owned()];
        assert!(!list_takes(&list, &["192.0.2.1", "192.0.2.1:3260"]));
        assert!(list_takes(&list, &["192.0.2.1", "192.0.2.1:3261"]));
    }
}
