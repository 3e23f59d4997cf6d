//! What a `MailDomain` may hold, with `PostfixAdmin`'s meanings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::ByteQuantity;

/// Bytes of a MB as `PostfixAdmin` counts them (`$CONF['quota_multiplier']`): `mailbox.quota` is in bytes,
/// `domain.maxquota` and `domain.quota` are in these.
pub const POSTFIXADMIN_MEGABYTE: i64 = 1_024_000;

/// What a domain may hold. Who is too many is told, oldest objects first served; the limits are in the domain's row too, so
/// that `PostfixAdmin` keeps to them. What is left out has no limit.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Most mailboxes: 0 for no limit, -1 for none at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 1_000_000_000))]
    pub mailboxes: Option<i32>,
    /// Most aliases, a catch-all included: 0 for no limit, -1 for none at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 1_000_000_000))]
    pub aliases: Option<i32>,
    /// Largest quota of one mailbox, as in 2Gi: a mailbox then has to have a quota. 0 for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox_quota: Option<ByteQuantity>,
    /// Sum of the quotas of all mailboxes, as in 100Gi: each mailbox then has to have a quota. 0 for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_quota: Option<ByteQuantity>,
}

/// A size in `PostfixAdmin`'s MB, rounded down, and never to 0, which would mean no limit.
#[must_use]
pub fn megabytes(size: ByteQuantity) -> i64 {
    if size.0 == 0 { 0 } else { (size.0 / POSTFIXADMIN_MEGABYTE).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_postfixadmins_megabytes() {
        let bytes = |bytes| megabytes(ByteQuantity(bytes));
        assert_eq!([bytes(0), bytes(1), bytes(102_400_000), bytes(102_400_001)], [0, 1, 100, 100]);
    }
}
