//! Whether smtpd(8) knows the words of its restriction lists. Pure.
//!
//! It says nothing of one that it doesn't know when it starts, nor to a client that asks for nothing: then it answers every
//! recipient with 451. The names that it knows are in its program, so it is asked for those of its own version.

use std::collections::BTreeSet;

/// A word of a restriction list that smtpd(8) does not know, in its own words, for each of them. `program` is the file of
/// the daemon.
pub(super) fn unknown(main: &str, program: &[u8]) -> BTreeSet<String> {
    let classes = value(main, "smtpd_restriction_classes").map(words).unwrap_or_default();
    let is_list =
        |name: &str| name.starts_with("smtpd_") && name.ends_with("_restrictions") || classes.contains(&name);
    let lists = parameters(main).filter(|(name, _)| is_list(name));
    let unknown = lists.flat_map(|(name, value)| {
        let words = words(value).into_iter();
        let unknown =
            words.filter(|word| is_name(word) && !classes.contains(word) && !is_known(program, word));
        unknown
            .map(move |word| format!("unknown smtpd restriction: \"{word}\" in {name}"))
            .collect::<Vec<_>>()
    });
    unknown.collect()
}

fn parameters(main: &str) -> impl Iterator<Item = (&str, &str)> {
    main.lines().filter_map(|line| line.split_once(" =")).filter(|(name, _)| !name.starts_with('#'))
}

fn value<'a>(main: &'a str, parameter: &str) -> Option<&'a str> {
    parameters(main).filter(|(name, _)| *name == parameter).last().map(|(_, value)| value)
}

/// What stands between commas and blanks; what is in braces are the options of a policy service.
fn words(value: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let words = value.split(|c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && (c == ',' || c.is_whitespace())
    });
    words.filter(|word| !word.is_empty()).collect()
}

/// Whether a word can be a restriction's name. Maps, hosts, numbers and services are arguments, and none of them is made
/// of letters alone.
fn is_name(word: &str) -> bool {
    word.bytes().all(|c| c.is_ascii_alphabetic() || c == b'_')
}

/// Whether a text is in a program, with the NUL that ends it. A linker lets a text share the end of a longer one, so the
/// byte before it says nothing.
fn is_known(program: &[u8], name: &str) -> bool {
    let text = format!("{}\0", name.to_ascii_lowercase());
    program.windows(text.len()).any(|window| window == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMTPD: &[u8] = b"\x7fELF\0permit_mynetworks\0reject_unknown_sender_domain\0check_sender_access\0\
        check_policy_service\0reject_rbl_client\0sleep\0warn_if_reject\0";

    fn told(main: &str) -> Vec<String> {
        unknown(main, SMTPD).into_iter().collect()
    }

    #[test]
    fn a_misspelt_restriction_is_told_with_its_list() {
        let told = told("smtpd_sender_restrictions = permit_mynetworks, reject_unknown_sender_domian\n");
        let word = "unknown smtpd restriction: \"reject_unknown_sender_domian\" in smtpd_sender_restrictions";
        assert_eq!(told, [word]);
    }

    #[test]
    fn arguments_are_no_restrictions_and_names_have_no_case() {
        let main = "smtpd_client_restrictions = Permit_MyNetworks check_sender_access hash:/etc/x, sleep 5,\
            check_policy_service { inet:127.0.0.1:1, timeout = ten }, warn_if_reject reject_rbl_client zen.example.net\n\
            smtpd_banner = no restriction\n# smtpd_helo_restrictions = nonsense\n";
        assert_eq!(told(main), [""; 0]);
    }

    #[test]
    fn a_class_of_restrictions_is_a_list_and_a_restriction() {
        let main = "smtpd_restriction_classes = strict, lax\nstrict = reject_all\nlax = permit_mynetworks\n\
            smtpd_helo_restrictions = strict lax\n";
        assert_eq!(told(main), ["unknown smtpd restriction: \"reject_all\" in strict"]);
    }
}
