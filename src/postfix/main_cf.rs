//! main.cf: every parameter that this project sets, and why.

use crate::api::mail_server::{
    DEFAULT_MESSAGE_SIZE_LIMIT, DEFAULT_MINIMUM_UID, DEFAULT_OWNER, DEFAULT_RECIPIENT_DELIMITER,
    LookupTables, MailServerSpec, OWNED_PARAMETERS, PATH_MESSAGE, Postfix, is_mail_store_path,
};
use crate::object::ObjectName;

use super::text::{Error, Parameters, is_parameter_name};
use super::{Needs, maps, networks, relay_host, tls};

/// `virtual_mailbox_base` where none is named.
pub const DEFAULT_MAIL_STORE: &str = "/var/vmail";

const NETWORK_RULE: &str = "write networks in CIDR notation, as in 10.1.0.0/16, none wider than /8 (IPv6: /7): that would be an open relay";
const PARAMETER_RULE: &str = "write parameter names of lower-case letters, digits and _ as in postconf(5)";
const OWNED_RULE: &str = "this is set by the operator from other fields, leave it out";

pub(super) fn render(name: &ObjectName, spec: &MailServerSpec, needs: &Needs) -> Result<String, Error> {
    let mut text = Parameters::default();
    text.header(
        "metadata.name",
        &format!("MailServer {name}. Written by vmail-operator: changes here are lost."),
    )?;
    process(&mut text);
    identity(&mut text, spec)?;
    local_class(&mut text);
    clients(&mut text, spec.postfix.as_ref())?;
    tls::server(&mut text, spec.postfix.as_ref());
    relay_host::render(&mut text, spec.postfix.as_ref())?;
    virtual_class(&mut text, spec, needs)?;
    user_parameters(&mut text, spec.postfix.as_ref())?;
    Ok(text.into_text())
}

/// How Postfix lives in its pod.
fn process(text: &mut Parameters) {
    text.fixed("compatibility_level", "3.6");
    text.fixed("maillog_file", "/dev/stdout");
    // A sub-directory, which Postfix makes and owns itself: the volume's root belongs to root.
    text.fixed("data_directory", "/var/lib/postfix/data");
    text.fixed("inet_interfaces", "all");
    // Works as well where IPv6 is switched off.
    text.fixed("inet_protocols", "all");
    // Postmaster notices would go to an address that need not exist; the log says the same.
    text.fixed("notify_classes", "");
}

fn identity(text: &mut Parameters, spec: &MailServerSpec) -> Result<(), Error> {
    text.value("hostname", "myhostname", spec.hostname.as_str())?;
    let delimiter = spec.postfix.as_ref().and_then(|postfix| postfix.recipient_delimiter.as_deref());
    text.value(
        "postfix.recipientDelimiter",
        "recipient_delimiter",
        delimiter.unwrap_or(DEFAULT_RECIPIENT_DELIMITER),
    )?;
    if let Some(banner) = spec.postfix.as_ref().and_then(|postfix| postfix.banner.as_deref()) {
        // RFC 5321, section 4.2: a greeting begins with the host's name.
        text.value("postfix.banner", "smtpd_banner", &format!("{} {banner}", spec.hostname.as_str()))?;
    }
    text.fixed("append_dot_mydomain", "no");
    text.fixed("biff", "no");
    let limit = spec.postfix.as_ref().and_then(|postfix| postfix.message_size_limit);
    text.number("message_size_limit", limit.map_or(DEFAULT_MESSAGE_SIZE_LIMIT, |limit| limit.0));
    Ok(())
}

/// Nobody has mail in the pod itself: addresses at localhost and at the pod's own IP addresses are refused. A domain
/// named in `mydestination` would win over the look-up of virtual domains.
fn local_class(text: &mut Parameters) {
    text.fixed("mydestination", "localhost");
    text.fixed("local_transport", "error:5.1.1 User unknown");
    text.fixed("local_recipient_maps", "");
    text.fixed("alias_maps", "");
    text.fixed("alias_database", "");
}

/// Who may send what: trusted networks anywhere, all others only to our domains.
fn clients(text: &mut Parameters, postfix: Option<&Postfix>) -> Result<(), Error> {
    let trusted = postfix.and_then(|postfix| postfix.trusted_networks.as_deref()).unwrap_or_default();
    let patterns: Option<Vec<_>> = trusted.iter().map(|network| networks::pattern(network)).collect();
    let patterns = patterns.ok_or_else(|| Error::new("postfix.trustedNetworks", NETWORK_RULE))?;
    text.value("postfix.trustedNetworks", "mynetworks", &patterns.join(" "))?;
    text.fixed("smtpd_relay_restrictions", "permit_mynetworks, reject_unauth_destination");
    // Else a domain would stand for its sub-domains too.
    text.fixed("parent_domain_matches_subdomains", "");
    text.fixed("smtpd_peername_lookup", "no");
    // The default and PROBE_ADDRESS: limits on clients don't make the pod look unready.
    text.fixed("smtpd_client_event_limit_exceptions", "$mynetworks, 127.0.0.2");
    text.fixed("smtp_tls_security_level", "may");
    text.fixed("disable_vrfy_command", "yes");
    // Postfix lets RCPT TO:<postmaster>, without a domain, past every restriction, and what can't be delivered then
    // bounces to a sender who may be forged. With a domain it is an address like any other.
    text.fixed(
        "smtpd_command_filter",
        "regexp:{{/^RCPT TO:\\s*<?\"?postmaster\"?>?(\\s.*)?$$/ RCPT TO:<postmaster@$myhostname>$$1}}",
    );
    Ok(())
}

/// The look-ups of virtual(8) and where it delivers to.
fn virtual_class(text: &mut Parameters, spec: &MailServerSpec, needs: &Needs) -> Result<(), Error> {
    let store = spec.mail_store.as_ref();
    let path = store.and_then(|store| store.path.as_deref()).unwrap_or(DEFAULT_MAIL_STORE);
    text.fixed("virtual_transport", "virtual");
    text.value("mailStore.path", "virtual_mailbox_base", checked_path(path)?)?;
    lookups(text, spec.lookup_tables.unwrap_or_default(), needs);
    // By default it is virtual_alias_maps: a query more for each address, and a row could open a domain.
    text.fixed("virtual_alias_domains", "");
    // None. Any other limit would have to be above message_size_limit, and would bound a whole mbox file.
    text.fixed("virtual_mailbox_limit", "0");
    text.number(
        "virtual_minimum_uid",
        store.and_then(|store| store.minimum_uid).unwrap_or(DEFAULT_MINIMUM_UID),
    );
    owners(text, spec, needs)?;
    Ok(())
}

/// Who mail is delivered as. One owner for all of it costs no look-up.
fn owners(text: &mut Parameters, spec: &MailServerSpec, needs: &Needs) -> Result<(), Error> {
    let store = spec.mail_store.as_ref();
    for (parameter, file, owner) in [
        ("virtual_uid_maps", "uid_maps", store.and_then(|store| store.uid)),
        ("virtual_gid_maps", "gid_maps", store.and_then(|store| store.gid)),
    ] {
        if needs.owners.is_empty() {
            text.value("mailStore", parameter, &format!("static:{}", owner.unwrap_or(DEFAULT_OWNER)))?;
        } else {
            text.fixed(parameter, table(spec.lookup_tables.unwrap_or_default(), file));
        }
    }
    // dotlock would need a directory that the owner of an mbox file may write to.
    if !needs.owners.is_empty() {
        text.fixed("virtual_mailbox_lock", "fcntl");
    }
    Ok(())
}

/// A look-up table. The descriptions of those in the database lie in the directory that main.cf is in, wherever that is:
/// so a directory can be checked before it is taken. proxymap(8) opens no other tables than those that main.cf names.
/// Files lie in a directory that the agent makes and names, a new one for each set of them.
fn table(tables: LookupTables, name: &str) -> String {
    let type_ = tables.as_str();
    if tables.are_files() {
        format!("{type_}:${}/{name}", maps::DIRECTORY_PARAMETER)
    } else {
        format!("{type_}:$config_directory/{name}.cf")
    }
}

fn lookups(text: &mut Parameters, tables: LookupTables, needs: &Needs) {
    let table = |name: &str| table(tables, name);
    text.fixed("virtual_mailbox_domains", table("domains_maps"));
    text.fixed("virtual_mailbox_maps", table("mailbox_maps"));
    text.fixed("virtual_alias_maps", aliases(tables));
    text.fixed("relay_domains", table("relay_domains_maps"));
    // It costs a query for each time that Postfix looks at a recipient. A domain that is switched off needs it: it is in
    // none of the classes above, and its mail would be relayed.
    if needs.transports {
        text.fixed("transport_maps", table("transport_maps"));
    }
    // Beside a catch-all the alias row of a disabled mailbox stays active, to keep its mail from the catch-all's owner:
    // without this it would be accepted and bounced. It costs a query for each recipient.
    if needs.disabled {
        text.fixed(
            "smtpd_recipient_restrictions",
            format!("check_recipient_access {}", table("disabled_maps")),
        );
    }
}

/// Files have what an alias domain means in their entries.
fn aliases(tables: LookupTables) -> String {
    let own = table(tables, "alias_maps");
    if tables.are_files() { own } else { format!("{own}, {}", table(tables, "alias_domain_maps")) }
}

fn checked_path(path: &str) -> Result<&str, Error> {
    if is_mail_store_path(path) { Ok(path) } else { Err(Error::new("mailStore.path", PATH_MESSAGE)) }
}

/// The user's own parameters, last: they win over those of ours that are not owned.
fn user_parameters(text: &mut Parameters, postfix: Option<&Postfix>) -> Result<(), Error> {
    for (name, value) in postfix.and_then(|postfix| postfix.parameters.as_ref()).into_iter().flatten() {
        let field = format!("postfix.parameters.{name}");
        if !is_parameter_name(name) {
            return Err(Error::new("postfix.parameters", PARAMETER_RULE));
        }
        if name.starts_with("virtual_") || OWNED_PARAMETERS.contains(&name.as_str()) {
            return Err(Error::new(field, OWNED_RULE));
        }
        text.value(&field, name, value)?;
    }
    Ok(())
}
