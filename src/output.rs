//! Standard output, as people pipe it: nothing else prints there but the log.

use std::io::{ErrorKind, Result, Write};

/// Prints `text` and the end of its line. Whoever reads may close the pipe when they have read enough.
///
/// # Errors
/// When it can't be written for any other reason.
pub fn print(text: &str) -> Result<()> {
    print_to(&mut std::io::stdout().lock(), text)
}

fn print_to(output: &mut impl Write, text: &str) -> Result<()> {
    match writeln!(output, "{}", text.trim_end()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe that nobody reads, or a disk that is full.
    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_a_reader_who_has_gone_is_no_error() {
        assert!(print_to(&mut Broken(ErrorKind::BrokenPipe), "text").is_ok());
        assert!(print_to(&mut Broken(ErrorKind::StorageFull), "text").is_err());
    }
}
