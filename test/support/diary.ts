// A module with a journal and nothing else: what it keeps of an account is to go with that.
import { defineModule } from '#core/module.ts'

export const diary = defineModule({
  name: 'diary',
  home: 'router',
  xeps: [],
  journals: ['diary'],
  setup: (app) => void app.journal('diary'),
})
