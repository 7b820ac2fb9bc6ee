import threading

from servable.registry.home import Home
from servable.testing import FakeClock


def test_one_at_a_time_until_it_is_over(opened: Home, clock: FakeClock) -> None:
    leases = opened.leases
    assert leases.take("watcher", "a", 10)
    assert not leases.take("watcher", "b", 10)
    assert leases.take("watcher", "a", 10)
    assert leases.take("other", "b", 10)
    assert leases.holder("watcher") == "a"
    clock.advance(9)
    assert leases.renew("watcher", "a", 10)
    clock.advance(9)
    assert not leases.take("watcher", "b", 10)
    clock.advance(1)
    assert leases.holder("watcher") == ""
    assert leases.take("watcher", "b", 10)
    assert not leases.renew("watcher", "a", 10)
    leases.give_back("watcher", "a")
    assert leases.holder("watcher") == "b"
    leases.give_back("watcher", "b")
    assert leases.take("watcher", "a", 10)


def test_of_many_who_ask_at_once_one_has_it(opened: Home) -> None:
    for name in ("new", "new again"):
        took: list[str] = []
        ready = threading.Barrier(8)

        def ask(
            holder: str, name: str = name, took: list[str] = took, ready: threading.Barrier = ready
        ) -> None:
            ready.wait()
            if opened.leases.take(name, holder, 60):
                took.append(holder)

        threads = [threading.Thread(target=ask, args=(str(number),)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(took) == 1


def test_nobody_who_follows_desired_state_is_woken(opened: Home) -> None:
    before = opened.change_token()
    opened.leases.take("watcher", "a", 10)
    opened.leases.give_back("watcher", "a")
    assert opened.change_token() == before
