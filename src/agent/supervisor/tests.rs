//! What is told of what is not taken, in a pod of directories, without a Postfix.

use std::fs;

use super::*;
use crate::postfix::maps::{Entries, Map};
use crate::postfix::shards::{MANIFEST_FILE, Manifest, mounted_name, shards};
use crate::postfix::{MAIN_CF, MASTER_CF};

/// A pod's directories, with look-up files of a type.
fn mounts(root: &Path, type_: &str) -> Places {
    let place = |name: &str| root.join(name);
    for name in ["config", "maps"] {
        fs::create_dir_all(place(name)).unwrap();
    }
    fs::write(place("config").join(MASTER_CF), "").unwrap();
    fs::write(
        place("config").join(MAIN_CF),
        format!("virtual_alias_maps = {type_}:$vmail_maps/alias_maps\n"),
    )
    .unwrap();
    let entries = Entries::from([((Map::Alias, "a@alpha.org".to_owned()), "b@alpha.org".to_owned())]);
    let shards = shards(&entries);
    let manifest = Manifest::of(&shards, [].into(), &Manifest::default()).unwrap();
    fs::write(place("maps").join(MANIFEST_FILE), manifest.text()).unwrap();
    for (name, text) in shards.values().flatten() {
        fs::write(place("maps").join(mounted_name(0, name)), text).unwrap();
    }
    Places {
        config: place("config"),
        maps: place("maps"),
        compiled_maps: place("compiled"),
        credentials: place("none"),
        tls: place("none"),
        relay: place("none"),
        pod: place("none"),
        config_directory: place("postfix"),
    }
}

/// The operator looks for a refusal of the configuration that it wants, which is not the one that runs.
#[tokio::test]
async fn what_postmap_refuses_is_told_of_the_configuration_that_is_mounted() {
    let root = tempfile::TempDir::new().unwrap();
    let supervisor = Supervisor::new(mounts(root.path(), "texthash"), (901, 901));
    let running = supervisor.mounted().await.unwrap();
    supervisor.running(&running);
    // There is no postmap(1) here, or one that does not know the type.
    mounts(root.path(), "cdb");
    let wanted = supervisor.files().unwrap().hash();
    let mut state = supervisor.state.subscribe();
    let told = tokio::select! {
        never = supervisor.follow(Course::new(running.clone())) => match never {},
        told = timeout(STOP_LIMIT, state.wait_for(|state| state.told.refused.is_some())) => {
            told.expect("it is told in time").unwrap().told.clone()
        }
    };
    assert_eq!(told.config_hash, Some(running.hash()));
    assert_eq!(told.refused.map(|refused| refused.config_hash), Some(wanted));
}

/// Neither would be tried again if it were taken for a refusal: the mounts don't change.
#[tokio::test]
async fn what_failed_for_a_reason_that_passes_is_tried_again() {
    let root = tempfile::TempDir::new().unwrap();
    let blocked = root.path().join("blocked");
    fs::write(&blocked, "").unwrap();
    let places = Places { config_directory: blocked.join("postfix"), ..mounts(root.path(), "texthash") };
    let supervisor = Supervisor::new(places, (901, 901));
    let running = supervisor.mounted().await.unwrap().with_maps(None);
    let mut state = supervisor.state.subscribe();
    let mut refused = async || {
        let told = timeout(STOP_LIMIT, state.wait_for(|state| state.told.refused.is_some())).await;
        let error = told.expect("it is told in time").unwrap().told.refused.clone().unwrap().error;
        supervisor.state.send_modify(|state| state.told.refused = None);
        error
    };
    tokio::select! {
        never = supervisor.follow(Course::new(running)) => match never {},
        () = async {
            for _ in 0..2 {
                let error = refused().await;
                assert!(error.contains("Not a directory"), "{error}");
            }
            fs::remove_file(&blocked).unwrap();
            while refused().await.contains("Not a directory") {}
        } => {}
    }
}

/// The container is started again while a configuration is refused: a bad type of look-up files, say.
#[tokio::test]
async fn what_was_taken_last_outlives_the_container_and_all_else_is_as_it_is_mounted_now() {
    let root = tempfile::TempDir::new().unwrap();
    let places = mounts(root.path(), "texthash");
    let supervisor = Supervisor::new(places.clone(), (901, 901));
    assert!(supervisor.mounted_before().await.is_err(), "in a new pod nothing ran before");
    let running = supervisor.mounted().await.unwrap();
    running.keep(&supervisor.kept()).unwrap();
    running.keep(&supervisor.kept()).unwrap();

    mounts(root.path(), "cdb");
    let pod = root.path().join("pod");
    fs::create_dir(&pod).unwrap();
    fs::write(pod.join("drain"), "true").unwrap();
    let again = Supervisor::new(Places { pod, ..places }, (901, 901));
    let before = again.mounted_before().await.unwrap();
    assert_eq!((before.hash(), before.maps()), (running.hash(), running.maps()));
    assert!(before.is_draining());
}

/// The mounted configuration looks up in more tables, or in another database, than the one that it is to give way to.
#[tokio::test]
async fn what_ran_before_begins_again_with_the_look_up_files_and_the_account_that_fit_it() {
    let root = tempfile::TempDir::new().unwrap();
    let places = Places { credentials: root.path().join("credentials"), ..mounts(root.path(), "texthash") };
    let supervisor = Supervisor::new(places.clone(), (901, 901));
    supervisor.mounted().await.unwrap().keep(&supervisor.kept()).unwrap();
    fs::create_dir(&places.config_directory).unwrap();
    let main_cf = places.config.join(MAIN_CF);
    let text = fs::read_to_string(&main_cf).unwrap();
    fs::write(places.config_directory.join(MAIN_CF), format!("{text}vmail_maps = /before\n")).unwrap();
    fs::write(&main_cf, format!("{text}transport_maps = texthash:$vmail_maps/transport_maps\n")).unwrap();
    assert_eq!(supervisor.mounted_before().await.unwrap().maps(), Some("/before".as_ref()));

    let query =
        |host: &str| fs::write(places.config.join("alias_maps.cf"), format!("hosts = {host}\n")).unwrap();
    fs::create_dir(&places.credentials).unwrap();
    for (name, text) in [("username", "postfixserver"), ("password", "hunter2")] {
        fs::write(places.credentials.join(name), text).unwrap();
    }
    fs::write(&main_cf, "").unwrap();
    query("before");
    supervisor.files().unwrap().keep(&supervisor.kept()).unwrap();
    let same = supervisor.mounted_before().await.unwrap();
    assert!(same == supervisor.files().unwrap());
    query("another");
    let before = supervisor.mounted_before().await.unwrap();
    assert!(before == same.without_account());
}
