//! Pagination: every list of the API is a [`Page`], walked with `?limit=&after=`.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Which part of a list is asked for. Items are ordered by their key, which `after` refers to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageRequest {
    /// Most items to return; 1 to 500.
    #[serde(default = "PageRequest::default_limit")]
    #[param(minimum = 1, maximum = 500, default = 100)]
    pub limit: usize,
    /// Return items after this key: the `next` of the page before.
    #[serde(default)]
    pub after: Option<String>,
}

impl PageRequest {
    /// Largest page.
    pub const MAX_LIMIT: usize = 500;

    fn default_limit() -> usize {
        100
    }
}

impl Default for PageRequest {
    fn default() -> Self {
        Self {
            limit: Self::default_limit(),
            after: None,
        }
    }
}

/// One part of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items, in the order of their keys.
    pub items: Vec<T>,
    /// Pass it as `after` to get the next part; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// Cuts the requested part out of `items`, which must be ascending by `key`.
    pub fn of<K: AsRef<str>>(
        items: impl IntoIterator<Item = T>,
        request: &PageRequest,
        key: impl Fn(&T) -> K,
    ) -> Self {
        let after = request.after.as_deref();
        let mut rest = items
            .into_iter()
            .filter(|item| after.is_none_or(|after| key(item).as_ref() > after));
        let limit = request.limit.clamp(1, PageRequest::MAX_LIMIT);
        let items: Vec<T> = rest.by_ref().take(limit).collect();
        let next = rest.next().and(items.last());
        let next = next.map(|item| key(item).as_ref().to_owned());
        Self { items, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn walking_the_pages_visits_every_item_once(
            all in proptest::collection::btree_set("[a-z]{1,4}", 0..60),
            limit in 1usize..12,
        ) {
            let all: Vec<String> = all.into_iter().collect();
            let mut request = PageRequest { limit, after: None };
            let mut seen = Vec::new();
            loop {
                let page = Page::of(all.clone(), &request, |item| item.clone());
                prop_assert!(page.items.len() <= limit);
                seen.extend(page.items);
                request.after = page.next;
                if request.after.is_none() {
                    break;
                }
            }
            prop_assert_eq!(seen, all);
        }
    }
}
