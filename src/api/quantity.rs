//! Sizes as Kubernetes quantities (`1Gi`, `500M`, `1000000`), read as whole bytes.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Largest size that the schema lets through, `100Ti`: far above any mailbox, far below the columns' limit.
pub const MAX_BYTES: i64 = 100 << 40;

const SIZE_RULE: &str =
    "write a size from 0 (unlimited) to 100Ti as a Kubernetes quantity, as in 500M or 2Gi";

/// A number of bytes, from 0 to [`MAX_BYTES`].
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ByteQuantity(pub i64);

impl ByteQuantity {
    /// Parses a quantity with an optional decimal (`k`, `M`, `G`, `T`) or binary (`Ki`, `Mi`, `Gi`, `Ti`) suffix and
    /// no fraction. `None` for anything else, and for a size above [`MAX_BYTES`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let factor: i64 = match &text[digits..] {
            "" => 1,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            _ => return None,
        };
        let bytes = text[..digits].parse::<i64>().ok()?.checked_mul(factor)?;
        (bytes <= MAX_BYTES).then_some(Self(bytes))
    }
}

impl Serialize for ByteQuantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

impl<'de> Deserialize<'de> for ByteQuantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written<'a> {
            Number(u64),
            #[serde(borrow)]
            Text(Cow<'a, str>),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Number(number) => Cow::Owned(number.to_string()),
            Written::Text(text) => text,
        };
        Self::parse(&text).ok_or_else(|| de::Error::custom(SIZE_RULE))
    }
}

impl JsonSchema for ByteQuantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ByteQuantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let rule = "string(self).matches('^[0-9]+([kMGT]|[KMGT]i)?$') && isQuantity(string(self)) \
                    && quantity(string(self)).compareTo(quantity('100Ti')) <= 0";
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 24,
            "x-kubernetes-validations": [{"rule": rule, "message": SIZE_RULE}],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kubernetes_users_write() {
        for (text, bytes) in [
            ("0", 0),
            ("102400000", 102_400_000),
            ("500M", 500_000_000),
            ("2Gi", 2 << 30),
            ("100Ti", MAX_BYTES),
        ] {
            assert_eq!(ByteQuantity::parse(text), Some(ByteQuantity(bytes)), "{text}");
        }
        for text in ["", "-1", "1.5Gi", "101Ti", "9999999999999999999", "1X", "Gi"] {
            assert_eq!(ByteQuantity::parse(text), None, "{text}");
        }
    }
}
