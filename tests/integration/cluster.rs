//! The cluster of `KUBECONFIG`, with the custom resource definitions of this checkout.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace as CoreNamespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt};
use tokio::sync::OnceCell;

static DEFINED: OnceCell<()> = OnceCell::const_new();

/// A client of the cluster that `make test` started.
pub async fn client() -> Client {
    assert!(
        std::env::var_os("KUBECONFIG").is_some(),
        "KUBECONFIG is not set: `make test` starts a cluster and sets it"
    );
    let client = Client::try_default().await.expect("the cluster of KUBECONFIG answers");
    DEFINED.get_or_init(|| define(client.clone())).await;
    client
}

async fn define(client: Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client);
    for crd in vmail_operator::api::crds().unwrap() {
        let (name, parameters) = (crd.name_any(), PatchParams::apply("vmail-tests").force());
        api.patch(&name, &parameters, &Patch::Apply(&crd)).await.unwrap();
        let established = await_condition(api.clone(), &name, is_crd_established());
        tokio::time::timeout(Duration::from_secs(30), established).await.unwrap().unwrap();
    }
}

/// A namespace of one test's own; its deletion begins when the test is done.
pub struct Namespace {
    pub client: Client,
    pub name: String,
}

impl Namespace {
    pub async fn create(prefix: &str) -> Self {
        let client = client().await;
        let object = CoreNamespace {
            metadata: kube::api::ObjectMeta {
                generate_name: Some(format!("{prefix}-")),
                ..kube::api::ObjectMeta::default()
            },
            ..CoreNamespace::default()
        };
        let created =
            Api::<CoreNamespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        Self { client, name: created.name_any() }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let name = self.name.clone();
        // The test's own runtime ends with the test, and would take the request with it.
        let deleting = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let namespaces = Api::<CoreNamespace>::all(Client::try_default().await.unwrap());
                namespaces.delete(&name, &DeleteParams::background()).await
            })
        });
        if !matches!(deleting.join(), Ok(Ok(_))) {
            eprintln!("namespace {} stays", self.name);
        }
    }
}

/// Waits for a condition, at most `limit`; `what` says what was waited for when it does not come.
pub async fn eventually<F: Future<Output = bool>>(
    limit: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) -> Duration {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    started.elapsed()
}
