//! Fixed-size pieces, so that few statement texts serve any number of rows.
//!
//! Every new text costs a prepare, and a text that falls out of the driver's cache of 100 costs a close and a prepare.

/// Sizes in which keys are asked for and rows are written, largest first.
const SIZES: [usize; 4] = [1000, 100, 10, 1];

/// Upper bound on the text of the rows of one statement, bytes: well below the smallest `max_allowed_packet` in use (16 MiB).
const MAX_STATEMENT_BYTES: usize = 4 << 20;

/// Cuts rows into slices of the fixed sizes, none with more text than a packet holds (a single row may have).
pub(super) fn pieces<T>(rows: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut pieces = Vec::new();
    let mut rest = rows;
    while !rest.is_empty() {
        let mut sum = 0;
        let fitting = rest.iter().take_while(|row| {
            sum += bytes(row);
            sum <= MAX_STATEMENT_BYTES
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
    fn pieces_have_fixed_sizes_and_lose_nothing() {
        let rows: Vec<usize> = (0..2345).collect();
        let pieces = pieces(&rows, |_| 1);
        assert!(pieces.iter().all(|piece| SIZES.contains(&piece.len())));
        assert_eq!(pieces.concat(), rows);
    }

    #[test]
    fn a_statement_stays_below_the_packet_limit() {
        let rows = vec![MAX_STATEMENT_BYTES / 50; 120];
        assert!(
            pieces(&rows, |bytes| *bytes)
                .iter()
                .all(|piece| piece.iter().sum::<usize>() <= MAX_STATEMENT_BYTES)
        );
        assert_eq!(pieces(&[MAX_STATEMENT_BYTES * 2], |bytes| *bytes).len(), 1);
    }

    #[test]
    fn keys_are_asked_for_in_padded_chunks() {
        let sizes = |count: usize| {
            padded(&vec![0; count]).map(|(chunk, size)| (chunk.len(), size)).collect::<Vec<_>>()
        };
        assert_eq!(sizes(1), [(1, 1)]);
        assert_eq!(sizes(11), [(11, 100)]);
        assert_eq!(sizes(1001), [(1000, 1000), (1, 1)]);
    }
}
