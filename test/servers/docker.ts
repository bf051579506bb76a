// The Docker engine of this machine, for servers that tests run as containers (testcontainers).
//
// Where an engine answers, it runs them; a program of this machine serves where none is. An engine of no use, as it has not
// got the image and reaches no registry, is told of, and is as good as none.
import { existsSync } from 'node:fs'
import { homedir, userInfo } from 'node:os'
import { join } from 'node:path'

/** A registry that is out of reach is not waited for. */
const PULLED_WITHIN_MS = 180_000

const asked = new Map<string, Promise<Error | undefined>>()

/** Why no container of this image can run here; undefined where one can: it has been pulled. Asks once. */
export function whyNoContainer(image: string): Promise<Error | undefined> {
  const known = asked.get(image)
  if (known !== undefined) return known
  const answer = look(image)
  asked.set(image, answer)
  return answer
}

async function look(image: string): Promise<Error | undefined> {
  if (!mayHaveEngine()) return new Error('Docker: no engine is here')
  const { getContainerRuntimeClient, getReaper, ImageName } = await import('testcontainers')
  let client: Awaited<ReturnType<typeof getContainerRuntimeClient>>
  try {
    client = await getContainerRuntimeClient()
  } catch (error) {
    return new Error(`Docker: no engine answers: ${(error as Error).message}`)
  }
  try {
    const name = ImageName.fromString(image)
    if (!(await client.image.exists(name))) await soon(client.image.pull(name), `${image} to be pulled`)
  } catch (error) {
    return told(`Docker: an engine is here, but not the image ${image}: ${(error as Error).message}`)
  }
  try {
    await soon(getReaper(client), 'testcontainers/ryuk, which removes what a broken run leaves')
  } catch (error) {
    return told(`Docker: ${(error as Error).message}; TESTCONTAINERS_RYUK_DISABLED=true does without`)
  }
  return undefined
}

/** The places where testcontainers looks: loading it takes a second, for every file of tests. */
function mayHaveEngine(): boolean {
  const { DOCKER_HOST, XDG_RUNTIME_DIR = `/run/user/${userInfo().uid}` } = process.env
  if (DOCKER_HOST) return true
  const home = homedir()
  return [
    '/var/run/docker.sock',
    join(XDG_RUNTIME_DIR, 'docker.sock'),
    join(home, '.docker/run/docker.sock'),
    join(home, '.docker/desktop/docker.sock'),
    join(home, '.testcontainers.properties'),
  ].some((path) => existsSync(path))
}

function told(why: string): Error {
  console.warn(`ATTENTION: ${why}`)
  return new Error(why)
}

async function soon<T>(work: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${PULLED_WITHIN_MS / 1_000} s`)), PULLED_WITHIN_MS)
  })
  return Promise.race([work, late]).finally(() => clearTimeout(timer))
}
