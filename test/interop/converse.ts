// Converse.js as a person uses it: what to click, and what is to be seen. Selectors are those of Converse 14.
import { lastLines } from '#test/support/mailbox.ts'
import type { Account } from './accounts.ts'
import type { Browser } from './browser.ts'
import type { TestServer } from './server.ts'

export class ConverseJs {
  readonly #browser: Browser
  readonly #server: TestServer

  constructor(browser: Browser, server: TestServer) {
    this.#browser = browser
    this.#server = server
  }

  async open(url: string): Promise<void> {
    await this.#step('the chat page', async (page) => {
      await page.goto(url)
      await page.locator('#converse-login-jid').waitFor()
    })
  }

  async login({ user, password }: Account): Promise<void> {
    await this.#step('to be logged in', async (page) => {
      await page.locator('#converse-login-jid').fill(user)
      await page.locator('#converse-login-password').fill(password)
      await page.locator('#converse-login button[type=submit]').click()
      await page.locator('converse-roster .open-contacts-toggle').waitFor()
    })
  }

  /** What the login form says after a refusal. */
  async loginRefused({ user, password }: Account): Promise<string> {
    return this.#step('a refusal to be shown', async (page) => {
      await page.locator('#converse-login-jid').fill(user)
      await page.locator('#converse-login-password').fill(password)
      await page.locator('#converse-login button[type=submit]').click()
      const feedback = page.locator('#converse-login .conn-feedback.alert-danger .feedback-message')
      await feedback.waitFor()
      return (await feedback.textContent()) ?? ''
    })
  }

  /** "Create an account" on the login form; Converse logs in by itself afterwards. */
  async register({ user, password }: Account): Promise<void> {
    await this.#step('the registration form', async (page) => {
      await page.locator('.register-account').click()
      await page.locator('#converse-register input[name=username]').fill(user)
      await page.locator('#converse-register input[name=password]').fill(password)
    })
    await this.#browser.picture('converse-register')
    await this.#step('to be registered and logged in', async (page) => {
      await page.locator('#converse-register input[type=submit]').click()
      await page.locator('converse-roster .open-contacts-toggle').waitFor()
    })
  }

  async addContact(jid: string, name: string): Promise<void> {
    await this.#step('the form for a new contact', async (page) => {
      await page.locator('.dropdown--contacts button').click()
      await page.locator('.dropdown--contacts .add-contact').click()
      await page.locator('converse-add-contact-modal input[name=jid]').fill(jid)
      await page.locator('converse-add-contact-modal input[name=name]').fill(name)
    })
    await this.#browser.picture('converse-add-contact')
    await this.#step('the new contact', async (page) => {
      await page.locator('converse-add-contact-modal button[type=submit]').click()
      await page.locator(`converse-roster [data-jid="${jid}"]`).waitFor()
    })
  }

  /** Accepts somebody's request to be a contact, as it stands in the roster. */
  async acceptRequest(jid: string): Promise<void> {
    const item = `.roster-group[data-group="Contact requests"] li:has([data-jid="${jid}"])`
    await this.#step(`the request of ${jid}`, async (page) => {
      await page.locator(`${item} .list-item-action button`).click()
    })
    await this.#browser.picture('converse-request')
    await this.#step(`the request of ${jid} to be accepted`, async (page) => {
      await page.locator(`${item} .accept-xmpp-request`).click()
      await page.locator('converse-accept-contact-request-modal button[type=submit]').click()
      await page.getByText('Successfully accepted the contact request').waitFor()
      await page.locator('converse-accept-contact-request-modal').waitFor({ state: 'hidden' })
    })
  }

  /** Waits until the roster shows the contact as Converse calls it: online, away, dnd, offline … */
  async shows(jid: string, status: string): Promise<void> {
    await this.#step(`${jid} to be shown ${status}`, async (page) => {
      await page.locator(`converse-roster li.current-xmpp-contact[data-status="${status}"]:has([data-jid="${jid}"])`).waitFor()
    })
  }

  async openChat(jid: string): Promise<void> {
    await this.#step(`the chat with ${jid}`, async (page) => {
      await page.locator(`converse-roster a.open-chat[data-jid="${jid}"]`).first().click() // who wrote unread stands there twice
      await page.locator(`converse-chat[jid="${jid}"] .chat-textarea`).waitFor()
    })
  }

  async say(jid: string, text: string): Promise<void> {
    await this.#step(`to write to ${jid}`, async (page) => {
      const box = page.locator(`converse-chat[jid="${jid}"] .chat-textarea`)
      await box.fill(text)
      await box.press('Enter')
    })
    await this.reads(jid, text, 'me')
  }

  /** Waits until the chat shows exactly this text, by oneself or the contact. */
  async reads(jid: string, text: string, sender: 'me' | 'them'): Promise<void> {
    await this.#step(`"${text}" by ${sender} in the chat with ${jid}`, async (page) => {
      const said = page.locator(`converse-chat[jid="${jid}"] .chat-msg__content--${sender} .chat-msg__text`)
      await said.getByText(text, { exact: true }).waitFor()
    })
  }

  /** Picks a file with the paper clip of the chat. */
  async upload(jid: string, file: { readonly name: string; readonly mimeType: string; readonly buffer: Buffer }): Promise<void> {
    await this.#step(`to upload ${file.name} in the chat with ${jid}`, async (page) => {
      await page
        .locator(`converse-chat[jid="${jid}"] .toggle-fileupload, converse-chat[jid="${jid}"] .fileupload`)
        .first()
        .waitFor({ state: 'attached' })
      await page.locator(`converse-chat[jid="${jid}"] input.fileupload`).setInputFiles(file)
    })
  }

  /** Waits until the chat shows a picture, loaded; its address and its width in pixels. */
  async sees(jid: string, sender: 'me' | 'them'): Promise<{ src: string; width: number }> {
    return this.#step(`a picture by ${sender} in the chat with ${jid}`, async (page) => {
      const picture = page.locator(`converse-chat[jid="${jid}"] .chat-msg__content--${sender} img.chat-image`)
      await picture.waitFor()
      return picture.evaluate(async (image: { src: string; naturalWidth: number; decode(): Promise<void> }) => {
        await image.decode()
        return { src: image.src, width: image.naturalWidth }
      })
    })
  }

  /** Loads the page anew, and waits until it is online again without being asked for a password. */
  async reload(): Promise<void> {
    await this.#step('to be online after a reload', async (page) => {
      await page.reload()
      await page.locator('converse-roster .open-contacts-toggle').waitFor()
    })
  }

  async #step<T>(awaited: string, act: (page: Browser['page']) => Promise<T>): Promise<T> {
    const { page, console, complaints } = this.#browser
    try {
      return await act(page)
    } catch (error) {
      await this.#browser.picture('converse-failed')
      const message = `Converse.js awaited ${awaited}. See test/artefacts/converse-failed.png.
The page complained: ${complaints.join('\n') || 'no'}
Its console: ${console.slice(-20).join('\n')}
The server logged:
${lastLines(this.#server.log(), 40)}`
      throw new Error(message, { cause: error })
    }
  }
}
