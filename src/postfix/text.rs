//! Lines of Postfix's configuration files, and what may stand in them.

/// A value of a manifest that can't be written into a configuration file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct Error {
    /// The field, as in `postfix.parameters.smtpd_banner`.
    pub field: String,
    /// What to write instead.
    pub rule: &'static str,
}

impl Error {
    pub(super) fn new(field: impl Into<String>, rule: &'static str) -> Self {
        Self { field: field.into(), rule }
    }
}

const VALUE_RULE: &str = "write one line, without control characters, without $ (write the value itself) and not beginning with # or a space";

/// The `name = value` lines of main.cf or of a look-up table's file, in their order.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    header: String,
    lines: Vec<(String, String)>,
}

impl Parameters {
    /// A comment at the beginning of the file.
    pub(super) fn header(&mut self, field: &str, text: &str) -> Result<(), Error> {
        self.header = format!("# {}\n", checked(field, text)?);
        Ok(())
    }

    /// A line of ours, made of nothing but texts of this program: may refer to other parameters with `$`.
    pub(super) fn fixed(&mut self, name: &'static str, value: impl Into<String>) {
        self.lines.push((name.to_owned(), value.into()));
    }

    /// A line with a value that is made from a manifest's `field`. It takes the place of an earlier line for the same
    /// parameter, since Postfix warns of a second one in every process.
    pub(super) fn value(&mut self, field: &str, name: &str, value: &str) -> Result<(), Error> {
        let value = checked(field, value)?.to_owned();
        self.lines.retain(|(earlier, _)| earlier != name);
        self.lines.push((name.to_owned(), value));
        Ok(())
    }

    /// A line with a number.
    pub(super) fn number(&mut self, name: &'static str, value: impl Into<i64>) {
        self.lines.push((name.to_owned(), value.into().to_string()));
    }

    pub(super) fn into_text(self) -> String {
        let line = |(name, value): (String, String)| format!("{}\n", format!("{name} = {value}").trim_end());
        self.header + &self.lines.into_iter().map(line).collect::<String>()
    }
}

/// Refuses what Postfix would read as more than a value: a new line, a `$` reference, a comment, a continuation.
fn checked<'a>(field: &str, value: &'a str) -> Result<&'a str, Error> {
    let harmless = !value.contains(|c: char| c.is_control() || c == '$') && !value.starts_with(['#', ' ']);
    if harmless { Ok(value) } else { Err(Error::new(field, VALUE_RULE)) }
}

/// Whether `name` looks like a parameter of postconf(5).
pub(super) fn is_parameter_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
}
