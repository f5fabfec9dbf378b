//! Long lists, a page at a time.
//!
//! Invariants
//! - Whoever is in the list from the first page to the last is on exactly one page, whatever else comes
//!   and goes meanwhile.
//! - A page has at most [`MAX_PAGE`] items. It may have fewer than asked for, even none, and still not
//!   be the last.

/// The most items on a page.
pub const MAX_PAGE: usize = 1_000;

/// Which page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// [`Page::next`] of the page before; `None` for the first.
    pub after: Option<Cursor>,
    /// How many items at most; counted as 1 to [`MAX_PAGE`].
    pub limit: usize,
}

/// Some items of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Cursor>,
}

/// A place in a list. Its text means nothing to others, and any text is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor(String);

impl PageRequest {
    /// The first page, of `limit` items.
    #[must_use]
    pub fn first(limit: usize) -> Self {
        Self { after: None, limit }
    }

    /// The page that begins there.
    #[must_use]
    pub fn after(cursor: Cursor, limit: usize) -> Self {
        Self { after: Some(cursor), limit }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.clamp(1, MAX_PAGE)
    }

    pub(crate) fn after_text(&self) -> Option<&str> {
        self.after.as_ref().map(Cursor::as_str)
    }
}

impl<T> Page<T> {
    /// Of the texts behind the cursor, in order, one more than the limit if there are so many, the page
    /// they make. A text that is no item takes its place and is left out.
    pub(crate) fn cut(
        mut texts: Vec<String>,
        request: &PageRequest,
        item: impl FnMut(&String) -> Option<T>,
    ) -> Self {
        let more = texts.len() > request.limit();
        texts.truncate(request.limit());
        let next = texts.last().filter(|_| more).cloned().map(Cursor);
        Self { items: texts.iter().filter_map(item).collect(), next }
    }
}

impl Cursor {
    /// The cursor with that text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_where_the_next_begins() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let page =
            Page::cut(texts(&["a", "b", "c"]), &PageRequest::first(2), |text| Some(text.clone()));
        assert_eq!(page.items, ["a", "b"]);
        assert_eq!(page.next, Some(Cursor::new("b")));
        let page = Page::cut(texts(&["c"]), &PageRequest::first(2), |text| Some(text.clone()));
        assert_eq!((page.items.len(), page.next), (1, None));
    }

    #[test]
    fn a_limit_is_kept_within_bounds() {
        assert_eq!(PageRequest::first(0).limit(), 1);
        assert_eq!(PageRequest::first(usize::MAX).limit(), MAX_PAGE);
    }
}
