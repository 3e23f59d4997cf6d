//! master.cf: which daemons run, and how. No value of a manifest is in it.

use super::Needs;
use crate::api::mail_server::LookupTables;

/// Debian's services without local(8), which this configuration gives no mail to. Nothing is chrooted: a
/// jail has no resolver, so the database's host name would not be found.
///
/// A proxymap(8) has a connection for each of up to seven tables, and one of them serves many daemons. virtual(8) doesn't ask it: it
/// trusts nobody with a path or an owner (`DICT_FLAG_NO_PROXY`, `dict_proxy.c`), and each of its processes has a connection for
/// the mailboxes, and two more where owners are looked up. [`render`] bounds both, so that there are fewer than forty, however
/// many clients there are. Without a limit ninety clients make it eighty.
///
/// trivial-rewrite(8) with `helpful_warnings` asks for each of our domains whether it is in `relay_domains` as well: three
/// queries for each time that an address is resolved, and one row of the table can't be both.
///
/// virtual(8) ends after a thousand messages in place of a hundred: where few of them deliver all mail, new ones with new connections
/// to the database took 0.2 ms a message. It remembers no look-up. smtpd(8) does, and keeps Postfix's own number.
///
/// Postfix doesn't start without the service postlog. Nobody logs to it: the agent is what Postfix logs to.
const TEXT: &str = "\
# service type private unpriv chroot wakeup maxproc command
smtp      inet      n - n - - smtpd
pickup    unix      n - n 60 1 pickup
cleanup   unix      n - n - 0 cleanup
qmgr      unix      n - n 300 1 qmgr
tlsmgr    unix      - - n 1000? 1 tlsmgr
rewrite   unix      - - n - - trivial-rewrite -o helpful_warnings=no
bounce    unix      - - n - 0 bounce
defer     unix      - - n - 0 bounce
trace     unix      - - n - 0 bounce
verify    unix      - - n - 1 verify
flush     unix      n - n 1000? 0 flush
proxymap  unix      - - n - 3 proxymap
proxywrite unix     - - n - 1 proxymap
smtp      unix      - - n - - smtp
relay     unix      - - n - - smtp
showq     unix      n - n - - showq
error     unix      - - n - - error
retry     unix      - - n - - error
discard   unix      - - n - - discard
lmtp      unix      - - n - - lmtp
virtual   unix      - n n - {virtual} virtual -o max_use=1000
anvil     unix      - - n - 1 anvil
scache    unix      - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
";

/// Processes of virtual(8) that share forty connections to a database with three proxymap(8): with one connection each, and with
/// three.
const VIRTUAL_PROCESSES: (&str, &str) = ("18", "6");

/// The text for a type of look-up tables.
pub(super) fn render(tables: LookupTables, needs: &Needs) -> String {
    let processes = match tables {
        LookupTables::ProxyMysql if needs.owners.is_empty() => VIRTUAL_PROCESSES.0,
        LookupTables::ProxyMysql => VIRTUAL_PROCESSES.1,
        _ => "-",
    };
    TEXT.replace("{virtual}", processes)
}
