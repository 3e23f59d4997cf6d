//! Maildirs that adopted rows keep.

use super::*;

fn theirs(maildir: &str) -> Row {
    Row::Mailbox(MailboxRow {
        username: ALFRED.into(),
        password: "theirs".into(),
        name: String::new(),
        maildir: maildir.into(),
        quota: 0,
        local_part: "alfred".into(),
        domain: "alpha.example.org".into(),
        active: true,
    })
}

#[test]
fn a_maildir_that_leads_out_of_the_mail_store_is_not_adopted() {
    for (maildir, reason) in [
        ("../../x/", Some(Reason::RowExists)),
        ("a/../../x/", Some(Reason::RowExists)),
        ("/etc/", Some(Reason::RowExists)),
        ("", Some(Reason::RowExists)),
        ("a/l/alfred/", None),
        ("..alfred/", None),
    ] {
        let (mut world, mut current) = (World::with_alpha(), Current::default());
        current.rows.insert((Table::Mailbox, ALFRED.into()), theirs(maildir));
        alfred(&mut world, &json!({}));
        let keys = all_keys(&world, &current);
        let planned = plan_keys(&world, &current, keys, ExistingRows::Adopt);
        apply(&mut current, &planned.plan);
        let verdict = planned.verdicts.iter().find(|verdict| verdict.object.kind == Kind::Mailbox).unwrap();
        let refused = (verdict.reason == Reason::RowExists).then_some(Reason::RowExists);
        assert_eq!(refused, reason, "{maildir:?}");
        let is_owned = current.owners.contains_key(&(Table::Mailbox, ALFRED.into()));
        assert_eq!(is_owned, reason.is_none(), "{maildir:?}");
        assert_eq!(current.rows[&(Table::Mailbox, ALFRED.into())], theirs(maildir), "{maildir:?}");
    }
}
