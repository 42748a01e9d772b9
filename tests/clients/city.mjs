// What the client programs in JavaScript want structured output of: the same as city.py.
import { z } from 'zod';

export const District = z.object({ name: z.string(), bank: z.enum(['left', 'right']) });

export const City = z.object({
  name: z.string().min(1),
  population: z.number().int().positive(),
  founded: z.iso.date(),
  motto: z.string().nullable(),
  districts: z.array(District).max(20),
});

export const Weather = z.object({ city: z.string() });
