"""Tasks page by page: a store looks at a limited number at once, so that other clients need not wait."""

from collections.abc import Iterator

from pilotmtc.model import Task
from pilotmtc.protocol.client.tasks import GetTasks, Tasks
from pilotmtc.protocol.records import Filter
from pilotmtc.session.link import StoreLink

_PAGE = 1000


def get_page(
    link: StoreLink, select: Filter, *, after: int = 0, size: int = _PAGE, newest: bool = False, largest: str = ""
) -> Tasks:
    """Return one page of the selected tasks."""
    return link.call(GetTasks(select, after, size, newest, largest))


def pages(
    link: StoreLink, select: Filter, *, after: int = 0, newest: bool = False, size: int = _PAGE
) -> Iterator[tuple[Task, ...]]:
    """Yield the selected tasks after `after`, page by page; no page is empty, but any may be short."""
    while True:
        page = get_page(link, select, after=after, size=size, newest=newest)
        if page.tasks:
            yield page.tasks
        if not page.next:
            return
        after = page.next
