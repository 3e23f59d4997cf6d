//! Statements and their values, which go to the server in one of two ways.
//!
//! Many rows go as prepared statements in pieces of fixed sizes, so that few texts serve any number of rows: every new text
//! costs a prepare, and a text that falls out of the driver's cache costs a close and a prepare. A few rows, and the keys of
//! a question, go as one packet of several statements that hold their values ([`one_packet`]): one round trip in place of many. A
//! question is spared the padding as well: 183 keys that are filled up to a thousand take `MariaDB` three times as long.

use sqlx::AssertSqlSafe;
use sqlx::mysql::{MySql, MySqlArguments};
use sqlx::query::Query;

/// A statement: its text with a `?` in place of each value, and the values.
#[derive(Clone, Debug)]
pub(super) struct Statement<'q> {
    text: String,
    values: Vec<Value<'q>>,
}

/// What a column is given or compared with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'q> {
    Text(&'q str),
    Number(i64),
}

impl<'q> From<&'q str> for Value<'q> {
    fn from(text: &'q str) -> Self {
        Self::Text(text)
    }
}

impl<'q> From<&'q String> for Value<'q> {
    fn from(text: &'q String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<i32> for Value<'_> {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Number(flag.into())
    }
}

impl<'q> Statement<'q> {
    /// A text that holds no `?` but those of the values that [`Statement::bind`] gives it.
    pub(super) fn new(text: String) -> Self {
        Self { text, values: Vec::new() }
    }

    /// The value of the next `?`.
    pub(super) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// For the prepared protocol.
    pub(super) fn prepared(self) -> Query<'q, MySql, MySqlArguments> {
        let query = sqlx::query(AssertSqlSafe(self.text));
        self.values.into_iter().fold(query, |query, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Number(number) => query.bind(number),
        })
    }

    /// How long [`Statement::with_literals`] gets, bytes, or somewhat less than that.
    fn weight(&self) -> usize {
        let bytes = |value: &Value<'_>| match value {
            Value::Text(text) => 2 * text.len() + "_utf8mb4 x''".len(),
            Value::Number(_) => "0".len(),
        };
        self.text.len() + self.values.iter().map(bytes).sum::<usize>()
    }

    /// The text with its values in it. A text is written in hexadecimal: whatever it holds, it stays a value.
    fn with_literals(&self) -> String {
        let mut sql = String::with_capacity(self.weight());
        let mut values = self.values.iter();
        for part in self.text.split_inclusive('?') {
            match part.strip_suffix('?').zip(values.next()) {
                Some((before, value)) => {
                    sql.push_str(before);
                    value.write_literal(&mut sql);
                }
                None => sql.push_str(part),
            }
        }
        sql
    }
}

impl Value<'_> {
    fn write_literal(&self, sql: &mut String) {
        match self {
            Self::Text(text) => {
                let digit = |value: u8| char::from(HEXADECIMAL[usize::from(value)]);
                sql.push_str("_utf8mb4 x'");
                sql.extend(text.bytes().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]));
                sql.push('\'');
            }
            Self::Number(number) => sql.push_str(&number.to_string()),
        }
    }
}

const HEXADECIMAL: &[u8; 16] = b"0123456789abcdef";

/// Upper bound on the text of one packet, and on that of the rows of one prepared statement, bytes: well below the smallest
/// `max_allowed_packet` that was ever a default (1 MiB). It is some hundreds of rows, for more of which prepared statements are the
/// faster way, or the questions for a few thousand keys.
const MAX_BYTES: usize = 512 << 10;

/// Several statements as one text with their values in it, if it is not too long.
pub(super) fn one_packet(statements: &[Statement<'_>]) -> Option<String> {
    let fits = statements.iter().map(Statement::weight).sum::<usize>() <= MAX_BYTES;
    fits.then(|| statements.iter().map(Statement::with_literals).collect::<Vec<_>>().join(";"))
}

/// Sizes in which keys are asked for and rows are written, largest first. A statement of a thousand rows writes none of them
/// quicker than one of a few hundred, and takes a server milliseconds to prepare.
const SIZES: [usize; 6] = [300, 100, 30, 10, 3, 1];

/// Cuts rows into slices of the fixed sizes, none with more text than a packet holds (a single row may have).
pub(super) fn pieces<T>(rows: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut pieces = Vec::new();
    let mut rest = rows;
    while !rest.is_empty() {
        let mut sum = 0;
        let fitting = rest.iter().take_while(|row| {
            sum += bytes(row);
            sum <= MAX_BYTES
        });
        let fitting = fitting.count().max(1);
        let size = SIZES.into_iter().find(|size| *size <= fitting).unwrap_or(1);
        let (piece, after) = rest.split_at(size);
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Cuts keys into slices of at most the largest size, each with the size of the statement that asks for it.
pub(super) fn padded<T>(keys: &[T]) -> impl Iterator<Item = (&[T], usize)> {
    keys.chunks(SIZES[0]).map(|chunk| {
        let size = SIZES.into_iter().rev().find(|size| *size >= chunk.len()).unwrap_or(SIZES[0]);
        (chunk, size)
    })
}

/// `?,?,?`
pub(super) fn placeholders(count: usize) -> String {
    vec!["?"; count].join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_its_literal() {
        let statement = Statement::new("INSERT INTO `t` (a,b,c,at) VALUES (?,?,?,NOW())".into())
            .bind("'; DROP TABLE t; --?\\é")
            .bind(-1_i64)
            .bind("");
        assert_eq!(
            statement.with_literals(),
            "INSERT INTO `t` (a,b,c,at) VALUES (_utf8mb4 x'273b2044524f50205441424c4520743b202d2d3f5cc3a9',-1,_utf8mb4 x'',NOW())"
        );
    }

    #[test]
    fn pieces_have_fixed_sizes_and_lose_nothing() {
        let rows: Vec<usize> = (0..2345).collect();
        let pieces = pieces(&rows, |_| 1);
        assert!(pieces.iter().all(|piece| SIZES.contains(&piece.len())));
        assert_eq!(pieces.concat(), rows);
    }

    #[test]
    fn a_statement_stays_below_the_packet_limit() {
        let rows = vec![MAX_BYTES / 50; 120];
        assert!(pieces(&rows, |bytes| *bytes).iter().all(|piece| piece.iter().sum::<usize>() <= MAX_BYTES));
        assert_eq!(pieces(&[MAX_BYTES * 2], |bytes| *bytes).len(), 1);
    }

    #[test]
    fn keys_are_asked_for_in_padded_chunks() {
        let sizes = |count: usize| {
            padded(&vec![0; count]).map(|(chunk, size)| (chunk.len(), size)).collect::<Vec<_>>()
        };
        assert_eq!(sizes(1), [(1, 1)]);
        assert_eq!(sizes(11), [(11, 30)]);
        assert_eq!(sizes(601), [(300, 300), (300, 300), (1, 1)]);
    }
}
