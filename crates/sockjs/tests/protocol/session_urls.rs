//! Which URLs name a session.

use crate::support::serve;

#[tokio::test]
async fn any_value_names_a_server_and_a_session() {
    let server = serve().await;
    for session in ["/a/a", "/_/_", "/1/1", "/abcdefgh_i-j%20/abcdefg_i-j%20"] {
        assert_eq!(server.poll(&format!("/echo{session}")).await, "o\n", "{session}");
    }
}

#[tokio::test]
async fn empty_names_dots_and_other_numbers_of_parts_name_none() {
    let server = serve().await;
    for path in ["//", "/a./a", "/a/a.", "/./.", "/", "///", "/a/b/c", "/a"] {
        let path = format!("/echo{path}/xhr");
        assert_eq!(server.get(&path).await.status, 404, "{path}");
        assert_eq!(server.post(&path, "").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn the_servers_name_means_nothing() {
    let server = serve().await;
    let session = server.session("/echo");
    assert_eq!(server.poll(&session).await, "o\n");
    server.send(&session, "[\"a\"]").await;
    assert_eq!(server.poll(&session.replace("/000/", "/999/")).await, "a[\"a\"]\n");
}
