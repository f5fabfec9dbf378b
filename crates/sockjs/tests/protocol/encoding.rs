//! Text that browsers change on its way, and text that is none.

use crate::support::serve;

/// The escapes of these characters, as JavaScript writes them.
fn escaped(chars: impl Iterator<Item = u32>) -> String {
    chars.map(|char| format!("\\u{char:04x}")).collect()
}

#[tokio::test]
async fn the_server_escapes_what_browsers_change() {
    let server = serve().await;
    let session = server.session("/echo");
    assert_eq!(server.poll(&session).await, "o\n");
    let ranges = [0x200c..=0x200f, 0x2028..=0x202f, 0x2060..=0x206f, 0xfff0..=0xffff];
    let killer = escaped(ranges.into_iter().flatten());
    let text: String = serde_json::from_str(&format!("\"{killer}\"")).unwrap();
    server.send(&session, &format!("[\"{text}\"]")).await;
    assert_eq!(server.poll(&session).await, format!("a[\"{killer}\"]\n"));
}

#[tokio::test]
async fn the_server_understands_whatever_clients_escape() {
    let server = serve().await;
    let session = server.session("/echo");
    assert_eq!(server.poll(&session).await, "o\n");
    // All of the basic plane but surrogates: more than any client escapes.
    let all = escaped((0..0xd800).chain(0xe000..=0xffff));
    server.send(&session, &format!("[\"{all}\"]")).await;
    let frame = server.poll(&session).await;
    let received: Vec<String> = serde_json::from_str(&frame[1..]).unwrap();
    let sent: String = serde_json::from_str(&format!("\"{all}\"")).unwrap();
    assert_eq!(received, [sent]);
}

#[tokio::test]
async fn half_a_character_becomes_the_sign_for_none() {
    let server = serve().await;
    let session = server.session("/echo");
    assert_eq!(server.poll(&session).await, "o\n");
    server.send(&session, r#"["a\ud800b", "\ud83d\ude00"]"#).await;
    let mut received: Vec<String> = Vec::new();
    while received.len() < 2 {
        let frame = server.poll(&session).await;
        received.extend(serde_json::from_str::<Vec<String>>(&frame[1..]).unwrap());
    }
    assert_eq!(received, ["a\u{fffd}b", "\u{1f600}"]);
}
