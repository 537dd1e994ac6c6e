//! Credentials that change.

use std::{fs, path::PathBuf};

use super::*;

/// A directory that is there as long as the value.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("podwitness-kubernetes-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn a_token_that_expires_is_read_again() {
    let server = Server::start(300).await;
    server.world().token = Some("first".into());
    let directory = Directory::new("token");
    let access = Access::ServiceAccount {
        server: server.url(),
        token: directory.file("token", "first"),
        ca: directory.file("ca.crt", include_str!("../testdata/ca.crt")),
    };
    let agent = Agent::start(access);
    agent.reaches(300).await;

    // The file is replaced before the old token expires, as the kubelet does it.
    directory.file("token", "second");
    server.world().token = Some("second".into());
    server.hang_up();
    server.advance(450);
    agent.reaches(450).await;
    agent.becomes(SourceState::Connected).await;

    // And after.
    server.world().token = Some("third".into());
    server.hang_up();
    eventually("401", || match agent.stats().problem {
        Some(problem) if problem.contains("401") => Ok(()),
        problem => Err(problem),
    })
    .await;
    assert_eq!(agent.state(), SourceState::Failed);
    directory.file("token", "third");
    server.advance(END);
    agent.reaches(END).await;
    agent.becomes(SourceState::Connected).await;
    assert_eq!(agent.stats().lists, 1);
}

#[tokio::test]
async fn a_kubeconfig() {
    let server = Server::start(END).await;
    server.world().token = Some("from-a-file".into());
    let directory = Directory::new("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
         clusters: [{{name: c, cluster: {{server: \"{}\"}}}}]\n\
         users: [{{name: u, user: {{token: from-a-file}}}}]\n\
         contexts: [{{name: here, context: {{cluster: c, user: u}}}}]\n",
        server.url()
    );
    let agent = Agent::start(Access::Kubeconfig(directory.file("config", &text)));
    agent.reaches(END).await;
    assert_eq!(agent.state(), SourceState::Connected);
    assert_eq!(agent.source.check().await.unwrap().0, pods_at(END).len());
    server.world().token = Some("another".into());
    assert!(agent.source.check().await.unwrap_err().to_string().contains("401"));
}

#[tokio::test]
async fn what_rbac_forbids_is_named() {
    let server = Server::start(END).await;
    server.world().list_faults.extend(std::iter::repeat_n(Fault::Status(403, ""), 1000));
    let agent = Agent::at(&server);
    agent.becomes(SourceState::Failed).await;
    let problem = agent.stats().problem.unwrap();
    assert!(problem.contains("resources: [pods], verbs: [list]"), "{problem}");
    server.world().list_faults.clear();
    agent.reaches(END).await;
}
