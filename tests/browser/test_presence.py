"""Who else has an item open, seen by two people with two tabs each."""

from playwright.sync_api import expect

from tests.test_end_to_end import item_of


def line(tab):
    return tab.page.locator(".presence")


def shows(tab, words, *, seconds=20):
    expect(line(tab)).to_have_text(words, timeout=seconds * 1000)
    expect(line(tab)).to_be_visible()


def shows_nobody(tab, *, seconds=20):
    expect(line(tab)).to_be_hidden(timeout=seconds * 1000)


def test_two_people_with_two_tabs_each_see_each_other_come_and_go(stack, open_tab):
    stack.rest()  # so that nothing else is told of
    item = item_of(stack.login("alice"))
    path = f"/items/{item}"
    alice = [open_tab("alice", path), open_tab("alice", path, at=stack.url("uvicorn"))]
    for tab in alice:
        tab.is_live()
        shows_nobody(tab)
    bob = [open_tab("bob", path, at=stack.url("uvicorn")), open_tab("bob", path)]
    for tab in alice:
        shows(tab, "Also open by bob")
        assert tab.said() == "", "nobody asked to be told"
    for tab in bob:
        shows(tab, "Also open by alice")

    bob[0].page.close()
    bob[1].page.wait_for_timeout(2500)
    for tab in alice:
        shows(tab, "Also open by bob")
    bob[1].page.get_by_role("link", name="Tickertape").click()
    for tab in alice:
        shows_nobody(tab)
    bob[1].page.go_back()
    for tab in alice:
        shows(tab, "Also open by bob")

    carol = open_tab("carol", path)
    shows(carol, "Also open by alice and bob")
    admin = open_tab("admin", path)
    shows(admin, "Also open by alice, bob and carol")
    expect(line(admin).locator("svg")).to_have_count(3)
    carol.page.close()
    shows(admin, "Also open by alice and bob")


def test_who_hides_in_their_preferences_is_not_shown_and_still_sees_the_others(stack, open_tab):
    item = item_of(stack.login("alice"))
    alice, bob = open_tab("alice", f"/items/{item}"), open_tab("bob", f"/items/{item}")
    shows(alice, "Also open by bob")
    shows(bob, "Also open by alice")
    label = "Do not show others what I have open"
    try:
        for hidden in (True, False):
            bob.open_bell()
            bob.page.get_by_role("button", name="Preferences").click()
            dialog = bob.page.get_by_role("dialog", name="Preferences")
            expect(dialog.get_by_label(label)).to_be_checked(checked=not hidden)
            dialog.get_by_label(label).set_checked(hidden)
            dialog.get_by_role("button", name="Save").click()
            expect(dialog).to_have_count(0)
            if hidden:
                shows_nobody(alice)
            else:
                shows(alice, "Also open by bob")
            shows(bob, "Also open by alice")
    finally:
        stack.login("bob").put("/api/preferences", json={"presence": "shown"})


def test_while_the_network_is_away_nobody_is_said_to_be_there(stack, open_tab, network):
    item = item_of(stack.login("alice"))
    bob = open_tab("bob", f"/items/{item}")
    bob.is_live()
    alice = open_tab("alice", f"/items/{item}", at=network.url)
    shows(alice, "Also open by bob")
    shows(bob, "Also open by alice")

    network.cut()
    shows_nobody(alice)
    shows_nobody(bob)
    network.restore()
    shows(alice, "Also open by bob", seconds=20)
    shows(bob, "Also open by alice")
