//! The kinds as a reference for people: a table of every field, out of the definitions that the API server gets.
//!
//! Pure. What a field means is said beside the field and nowhere else: no sentence about one belongs here.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

const HEAD: &str = "# API reference\n\n\
    Every field of every kind of `vmail.dev/v1alpha1`, as `kubectl explain` shows them one by one. Written by `make generate` \
    from the custom resource definitions: changes here are lost. `[]` is each entry of a list, `.*` each value of a map.\n";

const TABLE_HEAD: &str = "\n| field | type | limits | meaning |\n| --- | --- | --- | --- |\n";

/// The reference of all definitions, in their order.
#[must_use]
pub fn markdown(definitions: &[CustomResourceDefinition]) -> String {
    definitions.iter().map(kind).fold(HEAD.to_owned(), |text, kind| text + &kind)
}

fn kind(definition: &CustomResourceDefinition) -> String {
    let names = &definition.spec.names;
    let schemas = definition.spec.versions.iter().filter_map(|version| version.schema.as_ref());
    let schemas = schemas.filter_map(|schema| schema.open_api_v3_schema.as_ref());
    let short =
        names.short_names.iter().flatten().map(|name| format!(" (`{name}`)")).collect::<Vec<_>>().concat();
    let title = format!("\n## {}\n\n`{}`{short}. ", names.kind, names.plural);
    schemas.map(|schema| title.clone() + &text(description(schema)) + "\n" + &parts(schema)).collect()
}

/// What belongs to the object as a whole, then spec and status.
fn parts(schema: &JSONSchemaProps) -> String {
    let written = schema.properties.iter().flatten().filter(|(_, part)| part.properties.is_some());
    written.fold(rules(schema), |text, (name, part)| {
        text + &format!("\n### {name}\n") + &rules(part) + TABLE_HEAD + &fields(part, "").concat()
    })
}

/// Rules on several fields at once.
fn rules(schema: &JSONSchemaProps) -> String {
    let lines: Vec<_> = messages(schema).map(|message| format!("* {message}\n")).collect();
    if lines.is_empty() { String::new() } else { format!("\n{}", lines.concat()) }
}

/// A line for each field below `schema`, however deep.
fn fields(schema: &JSONSchemaProps, above: &str) -> Vec<String> {
    let required = schema.required.as_deref().unwrap_or_default();
    let field = |(name, field): (&String, &JSONSchemaProps)| {
        let path = format!("{above}{name}");
        let mut lines = vec![line(&path, field, required.contains(name))];
        lines.extend(match within(field) {
            Some((inner, sign)) => fields(inner, &format!("{path}{sign}.")),
            None => fields(field, &format!("{path}.")),
        });
        lines
    };
    schema.properties.iter().flatten().flat_map(field).collect()
}

fn line(path: &str, field: &JSONSchemaProps, required: bool) -> String {
    let required = required.then(|| "required".to_owned());
    let limits = required.into_iter().chain(limits(field)).collect::<Vec<_>>().join("; ");
    format!("| `{path}` | {} | {limits} | {} |\n", type_of(field), text(description(field)))
}

/// What a list or a map holds, and what stands for any of it in a path.
fn within(schema: &JSONSchemaProps) -> Option<(&JSONSchemaProps, &'static str)> {
    match (&schema.items, &schema.additional_properties) {
        (Some(JSONSchemaPropsOrArray::Schema(inner)), _) => Some((inner, "[]")),
        (_, Some(JSONSchemaPropsOrBool::Schema(inner))) => Some((inner, ".*")),
        _ => None,
    }
}

fn type_of(schema: &JSONSchemaProps) -> String {
    match (within(schema), schema.type_.as_deref()) {
        (Some((inner, "[]")), _) => format!("list of {}", type_of(inner)),
        (Some((inner, _)), _) => format!("map of {}", type_of(inner)),
        (None, Some(type_)) => type_.to_owned(),
        (None, None) => "integer or string".to_owned(),
    }
}

fn limits(schema: &JSONSchemaProps) -> Vec<String> {
    let code = |text: &str| format!("`{}`", text.replace('|', "\\|"));
    let values = schema.enum_.iter().map(|values| {
        let values = values.iter().map(|value| code(value.0.as_str().unwrap_or_default()));
        format!("one of {}", values.collect::<Vec<_>>().join(", "))
    });
    let ranges = [
        range(schema.min_length, schema.max_length, " characters"),
        range(schema.min_items, schema.max_items, " entries"),
        range(schema.min_properties, schema.max_properties, " entries"),
        range(schema.minimum, schema.maximum, ""),
    ];
    let each = within(schema).map(|(inner, _)| limits(inner)).filter(|limits| !limits.is_empty());
    values
        .chain(ranges.into_iter().flatten())
        .chain(schema.format.as_ref().filter(|format| !format.starts_with("int")).cloned())
        .chain(schema.pattern.as_ref().map(|pattern| code(pattern)))
        .chain(schema.default.as_ref().map(|value| format!("default {}", code(&value.0.to_string()))))
        .chain(messages(schema))
        .chain(each.map(|limits| format!("each: {}", limits.join("; "))))
        .collect()
}

fn range<N: std::fmt::Display>(least: Option<N>, most: Option<N>, unit: &str) -> Option<String> {
    match (least, most) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}")),
        (Some(least), None) => Some(format!("at least {least}{unit}")),
        (None, Some(most)) => Some(format!("at most {most}{unit}")),
        (None, None) => None,
    }
}

/// What the API server answers where a rule is broken.
fn messages(schema: &JSONSchemaProps) -> impl Iterator<Item = String> {
    let rules = schema.x_kubernetes_validations.iter().flatten();
    rules.filter_map(|rule| rule.message.as_deref()).map(text)
}

fn description(schema: &JSONSchemaProps) -> &str {
    schema.description.as_deref().unwrap_or_default()
}

/// On one line, with nothing that a table of Markdown would take for its own.
fn text(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    let pieces = words.split('`').enumerate().map(|(number, piece)| {
        let is_code = number % 2 == 1;
        if is_code { piece.to_owned() } else { piece.replace('*', "\\*").replace('<', "&lt;") }
    });
    pieces.collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_one_line_with_all_that_is_known_of_it() {
        let text = markdown(&crate::api::crds().unwrap());
        for line in [
            "| `postfix.relayHost.port` | integer | 1 to 65535 | TCP port. Default: 25. Providers often want 587. |",
            "| `replicas[].name` | string | required | Name of the pod. |",
            "| `drift` | string | one of `Correct`, `Report` | What to do with a managed row that somebody else changed or removed. Default: `Correct`. |",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let rule = "* write embedded or external, not both";
        assert!(!text.contains(rule) && text.contains(&rule[2..]), "a field's rule stands in its line");
        assert!(text.contains("\n* leave database out: look-up files need none\n"));
    }

    #[test]
    fn every_line_of_a_table_has_four_cells() {
        let text = markdown(&crate::api::crds().unwrap());
        for line in text.lines().filter(|line| line.starts_with('|')) {
            assert_eq!(line.replace("\\|", "").matches('|').count(), 5, "{line}");
        }
    }
}
